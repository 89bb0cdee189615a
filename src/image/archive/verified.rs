//! An archive that can be trusted: a file, standard input, or a directory in OCI's layout.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use coracle_shared::content::Packing;

use crate::error::{Code, Error, Result};
use crate::image::archive::directory;
use crate::image::archive::images::resolve;
use crate::image::archive::layout::{ArchiveImage, Contents};
use crate::image::archive::scan::{Check, Scan, scan};
use crate::image::platform::Platform;

/// Where an archive is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveInput {
    /// A file, or a directory in OCI's layout.
    File(PathBuf),
    Stdin,
}

/// An archive that was read to its end and found to be good.
#[derive(Debug)]
pub(crate) struct VerifiedArchive {
    content: Content,
    pub found: Scan,
    pub images: Vec<ArchiveImage>,
    /// Entries that are no images: the name, and what they are.
    pub others: Vec<(String, String)>,
}

#[derive(Debug)]
enum Content {
    File(File),
    Directory(PathBuf),
}

/// Receives layers: the digest of the unpacked layer, how it is packed, and its bytes.
pub(crate) type LayerSink<'a> = &'a mut dyn FnMut(&str, Packing, &mut dyn Read) -> io::Result<()>;

impl VerifiedArchive {
    /// Reads and verifies a whole archive; standard input is copied to a temporary file on the way.
    pub(crate) fn open(input: &ArchiveInput, platform: &Platform) -> Result<Self> {
        let (content, found) = match input {
            ArchiveInput::File(path) if path.is_dir() => {
                (Content::Directory(path.clone()), directory::scan(path, Check::Everything)?)
            }
            ArchiveInput::File(path) => {
                let what = format!("`{}`", path.display());
                let mut file = File::open(path).map_err(|source| match source.kind() {
                    // As with a configuration file: the command line is wrong.
                    io::ErrorKind::NotFound => cannot_read(&what, &source).with_code(Code::UsageInvalid),
                    _ => cannot_read(&what, &source),
                })?;
                // A pipe (`<(docker save …)`) cannot be read twice.
                if file.metadata().is_ok_and(|data| data.is_file()) {
                    let found = scan(&mut file, Check::Everything, &mut |_, _| Ok(()))?;
                    (Content::File(file), found)
                } else {
                    spool(file)?
                }
            }
            ArchiveInput::Stdin => spool(io::stdin().lock())?,
        };
        let Contents { images, others } = resolve(&found, platform)?;
        Ok(Self { content, found, images, others })
    }

    /// The same archive with only some of its images.
    pub(crate) fn only(mut self, wanted: impl Fn(&ArchiveImage) -> bool) -> Self {
        self.images.retain(wanted);
        self
    }

    /// Reads the archive again and hands on the layers of its images, except the small ones, which `found` has kept.
    pub(crate) fn read_layers(&mut self, sink: LayerSink<'_>) -> Result<()> {
        let Self { content, found, images, .. } = self;
        let layers: BTreeMap<&str, &str> = images
            .iter()
            .flat_map(|image| &image.layers)
            .map(|layer| (layer.path.as_str(), layer.diff_id.as_str()))
            .collect();
        match content {
            Content::File(file) => {
                file.rewind().map_err(|source| cannot_read("the image archive", &source))?;
                scan(file, Check::Structure, &mut |entry, bytes| match layers.get(entry.path) {
                    Some(diff_id) => sink(diff_id, entry.packing, bytes),
                    None => Ok(()),
                })?;
            }
            Content::Directory(directory) => {
                for (path, diff_id) in layers.into_iter().filter(|(path, _)| !found.kept.contains_key(*path)) {
                    let Some(facts) = found.files.get(path) else { continue };
                    let path = directory.join(path);
                    let what = format!("`{}`", path.display());
                    let mut file = File::open(path).map_err(|source| cannot_read(&what, &source))?;
                    sink(diff_id, facts.packing, &mut file).map_err(|source| cannot_read(&what, &source))?;
                }
            }
        }
        Ok(())
    }
}

fn cannot_read(what: &str, source: &io::Error) -> Error {
    Error::new(Code::FileFailed, format!("cannot read {what}")).with_cause(source)
}

/// Copies the input to a temporary file and verifies it at the same time.
fn spool(source: impl Read) -> Result<(Content, Scan)> {
    let failed = |source: &io::Error| {
        Error::new(Code::FileFailed, "cannot write the image archive to a temporary file")
            .with_cause(source)
            .hint("set `TMPDIR` to a directory with more space")
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
