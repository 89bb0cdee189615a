//! Archives of images: a file, standard input, or a directory in OCI's layout.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use coracle_shared::wire::{Image, Layer};

use crate::error::{Code, Error, Result};
use crate::image::archive::directory;
use crate::image::archive::layout::{ArchiveImage, resolve};
use crate::image::archive::{Check, Scan, scan};
use crate::image::load::Source;
use crate::image::load::hub::{Feed, Hub};
use crate::image::load::transfer::cut;
use crate::image::platform::Platform;
use crate::image::reference::Reference;

/// An archive that was read to its end and found to be good.
#[derive(Debug)]
pub(crate) struct Checked {
    content: Content,
    found: Scan,
    /// Its images.
    pub images: Vec<ArchiveImage>,
}

#[derive(Debug)]
enum Content {
    File(File),
    Folder(PathBuf),
}

impl Checked {
    /// Reads and verifies a whole archive; standard input goes to a temporary file on the way.
    pub(crate) fn open(source: &Source, platform: &Platform) -> Result<Self> {
        let (content, found) = match source {
            Source::File(path) if path.is_dir() => {
                (Content::Folder(path.clone()), directory::scan(path, Check::Everything)?)
            }
            Source::File(path) => {
                let what = format!("`{}`", path.display());
                let mut file = File::open(path).map_err(|source| unreadable(&what, &source))?;
                // A pipe (`<(docker save …)`) cannot be read twice.
                if file.metadata().is_ok_and(|data| data.is_file()) {
                    let found = scan(&mut file, Check::Everything, &mut |_, _| Ok(()))?;
                    (Content::File(file), found)
                } else {
                    spool(file)?
                }
            }
            Source::Stdin => spool(io::stdin().lock())?,
        };
        let images = resolve(&found, platform)?;
        Ok(Self { content, found, images })
    }

    /// The same archive with only some of its images.
    pub(crate) fn only(mut self, wanted: impl Fn(&ArchiveImage) -> bool) -> Self {
        self.images.retain(wanted);
        self
    }
}

fn unreadable(what: &str, source: &io::Error) -> Error {
    Error::new(Code::FileFailed, format!("cannot read {what}")).cause(source)
}

/// Copies what is read to a temporary file and verifies it at the same time.
fn spool(source: impl Read) -> Result<(Content, Scan)> {
    let failed = |source: &io::Error| {
        Error::new(Code::FileFailed, "cannot write the image archive to a temporary file")
            .cause(source)
            .hint("`TMPDIR` chooses a directory with more space")
    };
    let file = tempfile::tempfile().map_err(|source| failed(&source))?;
    let mut copy = Spool { source, file, failure: None };
    let found = scan(&mut copy, Check::Everything, &mut |_, _| Ok(()));
    match copy.failure {
        Some(failure) => Err(failed(&failure)),
        None => Ok((Content::File(copy.file), found?)),
    }
}

struct Spool<R> {
    source: R,
    file: File,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Spool<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if let Err(failure) = self.file.write_all(&buffer[..count]) {
            self.failure = Some(failure);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(count)
    }
}

impl Feed for Checked {
    fn feed(self: Box<Self>, hub: &mut Hub) -> Result<()> {
        let Self { content, found, images } = *self;
        let layers: BTreeMap<&str, &str> = images
            .iter()
            .flat_map(|image| &image.layers)
            .map(|layer| (layer.path.as_str(), layer.diff_id.as_str()))
            .collect();
        match content {
            Content::File(mut file) => {
                file.rewind().map_err(|source| unreadable("the image archive", &source))?;
                let mut failure = None;
                let again = scan(file, Check::Structure, &mut |entry, content| {
                    let Some(diff_id) = layers.get(entry.path) else { return Ok(()) };
                    let sent =
                        hub.layer(&Layer { diff_id: Some((*diff_id).to_owned()), packing: entry.packing }, content);
                    failure = sent.as_ref().err().map(cut);
                    sent
                });
                again.map_err(|error| failure.unwrap_or(error))?;
            }
            Content::Folder(folder) => {
                let big = layers.iter().filter(|(path, _)| !found.kept.contains_key(**path));
                for (path, diff_id) in big {
                    send_file(&folder.join(path), &found, (path, diff_id), hub)?;
                }
            }
        }
        send_images(&found, &images, hub)
    }
}

fn send_file(file: &Path, found: &Scan, (path, diff_id): (&str, &str), hub: &mut Hub) -> Result<()> {
    let Some(facts) = found.files.get(path) else { return Ok(()) };
    let mut file = File::open(file).map_err(|source| unreadable(&format!("`{}`", file.display()), &source))?;
    let layer = Layer { diff_id: Some(diff_id.to_owned()), packing: facts.packing };
    hub.layer(&layer, &mut file).map_err(|source| cut(&source))
}

/// Sends what was kept in memory, and then the images: all their layers were sent before.
pub(crate) fn send_images(found: &Scan, images: &[ArchiveImage], hub: &mut Hub) -> Result<()> {
    let mut sent = BTreeSet::new();
    for layer in images.iter().flat_map(|image| &image.layers).filter(|layer| sent.insert(&layer.path)) {
        if let (Some(content), Some(facts)) = (found.kept.get(&layer.path), found.files.get(&layer.path)) {
            let known = Layer { diff_id: Some(layer.diff_id.clone()), packing: facts.packing };
            hub.layer(&known, &mut content.as_slice()).map_err(|source| cut(&source))?;
        }
    }
    for image in images {
        let image = Image {
            id: image.asked.clone(),
            names: image.names.iter().map(Reference::to_string).collect(),
            config: image.config.clone(),
            manifest: image.manifest.clone(),
        };
        hub.image(&image).map_err(|source| cut(&source))?;
    }
    Ok(())
}
