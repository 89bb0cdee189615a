//! Where images come from: the engine's own stream, a file, or standard input.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use tokio_util::io::{StreamReader, SyncIoBridge};

use super::archive::{Check, Scan, scan};
use super::layout::{ArchiveImage, UNNAMED, resolve};
use super::load::{Source, Wanted};
use super::platform::Platform;
use super::stream::{ArchiveWriter, Fan};
use crate::engine::ByteStream;
use crate::error::{Code, Error, Result};

/// An archive that was read to its end and found to be good.
#[derive(Debug)]
pub(super) struct Checked {
    file: File,
    found: Scan,
    /// Its images, each with a name.
    pub images: Vec<ArchiveImage>,
}

impl Checked {
    /// Reads and verifies a whole archive; standard input goes to a temporary file on the way.
    pub(super) fn open(source: &Source, platform: &Platform) -> Result<Self> {
        let (mut file, found) = match source {
            Source::File(path) => {
                let mut file = open_file(path)?;
                // A pipe (`<(docker save …)`) cannot be read twice.
                if file.metadata().is_ok_and(|data| data.is_file()) {
                    let found = scan(&mut file, Check::Everything, &mut |_, _, _| Ok(()))?;
                    (file, found)
                } else {
                    spool(file)?
                }
            }
            Source::Stdin => spool(io::stdin().lock())?,
        };
        file.rewind().map_err(|source| unreadable("the image archive", &source))?;
        let mut images = resolve(&found, platform)?;
        name_all(&mut images)?;
        Ok(Self { file, found, images })
    }

    /// The same archive with only some of its images.
    pub(super) fn only(mut self, wanted: impl Fn(&ArchiveImage) -> bool) -> Self {
        self.images.retain(wanted);
        self
    }
}

fn unreadable(what: &str, source: &io::Error) -> Error {
    Error::new(Code::FileFailed, format!("cannot read {what}")).cause(source)
}

fn open_file(path: &Path) -> Result<File> {
    let what = format!("`{}`", path.display());
    let file = File::open(path).map_err(|source| unreadable(&what, &source))?;
    if file.metadata().map_err(|source| unreadable(&what, &source))?.is_dir() {
        return Err(Error::new(Code::ArchiveInvalid, format!("{what} is a directory"))
            .hint(format!("pack it: `tar --create --directory {} . | coracle load image-archive -`", path.display())));
    }
    Ok(file)
}

/// Copies what is read to a temporary file and verifies it at the same time.
fn spool(source: impl Read) -> Result<(File, Scan)> {
    let failed = |source: &io::Error| {
        Error::new(Code::FileFailed, "cannot write the image archive to a temporary file")
            .cause(source)
            .hint("`TMPDIR` chooses a directory with more space")
    };
    let file = tempfile::tempfile().map_err(|source| failed(&source))?;
    let mut copy = Spool { source, file, failure: None };
    let found = scan(&mut copy, Check::Everything, &mut |_, _, _| Ok(()));
    match copy.failure {
        Some(failure) => Err(failed(&failure)),
        None => Ok((copy.file, found?)),
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

/// Gives a digest for a name to what has none: containerd keeps only what is named.
fn name_all(images: &mut [ArchiveImage]) -> Result<()> {
    for image in images.iter_mut().filter(|image| image.names.is_empty()) {
        image.names.push(format!("{UNNAMED}@{}", super::archive::digest(&image.manifest)).parse()?);
    }
    Ok(())
}

/// Passes the engine's stream on while it is read.
pub(super) fn send_from_engine(
    source: ByteStream,
    wanted: &[Wanted],
    platform: &Platform,
    fan: Fan,
) -> Result<Vec<ArchiveImage>> {
    let mut writer = ArchiveWriter::new(fan);
    let source = SyncIoBridge::new(StreamReader::new(source));
    let found = scan(source, Check::Structure, &mut |_, size, content| writer.file(size, content));
    let resolved = found.and_then(|found| {
        let mut images = resolve(&found, platform)?;
        add_names(&mut images, wanted)?;
        Ok((found, images))
    });
    match resolved {
        Ok((found, images)) => {
            writer.finish(&found, &images).map_err(|source| cut(&source))?;
            Ok(images)
        }
        Err(error) => {
            writer.abort();
            Err(of_engine(error))
        }
    }
}

fn cut(source: &io::Error) -> Error {
    Error::new(Code::LoadFailed, "cannot send the images").cause(source)
}

/// What the engine sends is not the user's file.
fn of_engine(error: Error) -> Error {
    if error.code() != Code::ArchiveInvalid {
        return error;
    }
    Error::new(Code::LoadFailed, "what the engine saves of the images cannot be used")
        .because(error.cause_text().unwrap_or(error.message()).to_owned())
        .hint("see what `docker save` says; pull or build the image again")
}

/// Adds the names that the engine does not write: those with a digest.
fn add_names(images: &mut [ArchiveImage], wanted: &[Wanted]) -> Result<()> {
    for image in wanted {
        let same = |other: &&mut ArchiveImage| other.id == image.id || other.listed.as_ref() == Some(&image.id);
        if let Some(found) = images.iter_mut().find(same) {
            found.names.extend(image.names.iter().cloned());
            found.names.sort();
            found.names.dedup();
        }
        if let Some(name) = image.names.iter().find(|name| !images.iter().any(|image| image.names.contains(name))) {
            return Err(Error::new(Code::LoadFailed, format!("the engine did not save image `{}`", name.familiar()))
                .hint("was it removed or tagged anew just now? try again"));
        }
    }
    name_all(images)
}

/// Sends what the images need of an archive that was found to be good.
pub(super) fn send_from_file(archive: Checked, fan: Fan) -> Result<()> {
    let Checked { file, found, images } = archive;
    let mut needed: BTreeSet<&str> = images.iter().flat_map(|image| &image.paths).map(String::as_str).collect();
    let mut writer = ArchiveWriter::new(fan);
    let again = scan(file, Check::Structure, &mut |path, size, content| {
        // What two images share, or the archive has twice, is sent once.
        if needed.remove(path) { writer.file(size, content) } else { Ok(()) }
    });
    match again {
        Ok(_) => writer.finish(&found, &images).map_err(|source| cut(&source)),
        Err(error) => {
            writer.abort();
            Err(error)
        }
    }
}
