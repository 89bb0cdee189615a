//! tar-split: what the engine keeps of a layer's tar beside the unpacked files, so that the tar can be rebuilt byte for
//! byte. One JSON object per line, compressed with gzip: either bytes of the tar, or the name of a
//! file whose content comes next.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::rooted::Rooted;
use super::unexpected;

/// The longest line, bytes: the headers of one file, or what followed the end of the tar.
const MAX_LINE: u64 = 32 << 20;
/// Bytes of a file read at once.
const BUFFER: usize = 256 << 10;
const FILE: u8 = 1;
const BYTES: u8 = 2;

/// A line, as it is written.
#[derive(Deserialize)]
struct Line<'a> {
    r#type: u8,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    /// A name that is not UTF-8, in base64.
    #[serde(default)]
    name_raw: Option<Cow<'a, str>>,
    #[serde(default)]
    size: u64,
    #[serde(borrow, default)]
    payload: Option<Cow<'a, str>>,
}

/// The next piece of a tar.
enum Part<'a> {
    /// These bytes, in base64.
    Bytes(&'a str),
    /// The content of a file.
    File(Cow<'a, [u8]>, u64),
}

/// Reads the lines of a `tar-split.json.gz`.
fn parts(source: impl Read, mut take: impl FnMut(Part<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut source = BufReader::with_capacity(64 << 10, MultiGzDecoder::new(source));
    let mut text = Vec::new();
    loop {
        text.clear();
        if source.by_ref().take(MAX_LINE).read_until(b'\n', &mut text)? == 0 {
            return Ok(());
        }
        let line: Line<'_> = serde_json::from_slice(&text)?;
        match (line.r#type, &line.name_raw) {
            (BYTES, _) => take(Part::Bytes(line.payload.as_deref().unwrap_or_default()))?,
            // A file without content is not read: it may be anything, such as a link or a whiteout.
            (FILE, _) if line.size == 0 => {}
            (FILE, Some(raw)) if !raw.is_empty() => {
                take(Part::File(Cow::Owned(decoded(raw)?), line.size))?;
            }
            (FILE, _) => take(Part::File(Cow::Borrowed(line.name.as_bytes()), line.size))?,
            (other, _) => return Err(unexpected(format!("tar-split has a line of type {other}"))),
        }
    }
}

fn decoded(text: &str) -> io::Result<Vec<u8>> {
    BASE64_STANDARD.decode(text).map_err(io::Error::other)
}

/// A layer as a tar-split file and a directory with its files.
pub(crate) struct Split {
    lines: std::path::PathBuf,
    files: Rooted,
}

impl Split {
    pub(crate) fn open(lines: &Path, files: &Path) -> io::Result<Self> {
        Ok(Self { lines: lines.to_owned(), files: Rooted::open(files)? })
    }

    /// The size of the tar, bytes. With `check`, fails if files are missing, so that little can go wrong later.
    pub(crate) fn size(&self, check: bool) -> io::Result<u64> {
        let mut size = 0;
        parts(File::open(&self.lines)?, |part| {
            size += match part {
                Part::Bytes(text) => base64_size(text)?,
                Part::File(name, size) => {
                    if check {
                        self.file(&name, size)?;
                    }
                    size
                }
            };
            Ok(())
        })?;
        Ok(size)
    }

    /// Rebuilds the tar.
    pub(crate) fn write(&self, target: &mut impl Write) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        parts(File::open(&self.lines)?, |part| match part {
            Part::Bytes(text) => target.write_all(&decoded(text)?),
            Part::File(name, mut left) => {
                let mut file = self.file(&name, left)?;
                while left > 0 {
                    let wanted = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
                    let count = file.read(&mut buffer[..wanted])?;
                    if count == 0 {
                        return Err(changed(&name));
                    }
                    target.write_all(&buffer[..count])?;
                    left -= count as u64;
                }
                Ok(())
            }
        })
    }

    fn file(&self, name: &[u8], size: u64) -> io::Result<File> {
        let file = self.files.file(name)?;
        let found = file.metadata()?;
        if found.is_file() && found.len() == size { Ok(file) } else { Err(changed(name)) }
    }
}

fn changed(name: &[u8]) -> io::Error {
    unexpected(format!("`{}` has changed", String::from_utf8_lossy(name)))
}

/// The number of bytes in a base64 text.
fn base64_size(text: &str) -> io::Result<u64> {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    match (text.len() % 4, text.len() / 4 * 3) {
        (0, size) if padding <= 2 && padding <= size => Ok((size - padding) as u64),
        _ => Err(unexpected("tar-split has a damaged line")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(lines: &[String]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    fn bytes(content: &[u8]) -> String {
        format!(r#"{{"type":2,"payload":"{}","position":0}}"#, BASE64_STANDARD.encode(content))
    }

    fn layer(lines: &[String]) -> (tempfile::TempDir, Split) {
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("files");
        std::fs::create_dir(&files).unwrap();
        let split = directory.path().join("split.gz");
        std::fs::write(&split, packed(lines)).unwrap();
        let split = Split::open(&split, &files).unwrap();
        (directory, split)
    }

    #[test]
    fn a_tar_is_its_bytes_and_the_content_of_its_files_in_turn() {
        use std::os::unix::ffi::OsStrExt;
        let (directory, split) = layer(&[
            bytes(b"head "),
            r#"{"type":1,"name":"a/\"b\"","size":5,"payload":"AAAAAAAAAAA=","position":1}"#.to_owned(),
            bytes(b" middle "),
            r#"{"type":1,"name":"is a directory","payload":"","position":3}"#.to_owned(),
            r#"{"type":2,"payload":null,"position":4}"#.to_owned(),
            r#"{"type":1,"name_raw":"/w==","size":3,"payload":"","position":5}"#.to_owned(),
            bytes(b" end"),
        ]);
        let files = directory.path().join("files");
        std::fs::create_dir(files.join("a")).unwrap();
        std::fs::write(files.join("a/\"b\""), "first").unwrap();
        std::fs::write(files.join(std::ffi::OsStr::from_bytes(&[0xff])), "raw").unwrap();
        let mut tar = Vec::new();
        split.write(&mut tar).unwrap();
        assert_eq!(String::from_utf8(tar).unwrap(), "head first middle raw end");
        assert_eq!(split.size(true).unwrap(), 25);
    }

    #[test]
    fn a_file_that_is_gone_or_has_changed_is_found_before_anything_is_sent() {
        let line = r#"{"type":1,"name":"file","size":5,"payload":"","position":0}"#.to_owned();
        let (directory, split) = layer(std::slice::from_ref(&line));
        assert_eq!(split.size(false).unwrap(), 5);
        split.size(true).unwrap_err();
        std::fs::write(directory.path().join("files/file"), "longer").unwrap();
        split.size(true).unwrap_err();
        split.write(&mut Vec::new()).unwrap_err();
        std::fs::write(directory.path().join("files/file"), "right").unwrap();
        assert_eq!(split.size(true).unwrap(), 5);
    }

    #[test]
    fn no_name_leads_out_of_the_layer() {
        for name in ["../outside", "/outside", "link", "directory/outside"] {
            let (directory, split) = layer(&[format!(r#"{{"type":1,"name":"{name}","size":6,"position":0}}"#)]);
            std::fs::write(directory.path().join("outside"), "secret").unwrap();
            let files = directory.path().join("files");
            std::os::unix::fs::symlink(directory.path().join("outside"), files.join("link")).unwrap();
            std::os::unix::fs::symlink(directory.path(), files.join("directory")).unwrap();
            let mut tar = Vec::new();
            split.write(&mut tar).unwrap_err();
            assert_eq!(tar, b"");
        }
    }

    #[test]
    fn damaged_lines_are_refused() {
        for line in ["{", r#"{"type":3,"position":0}"#, r#"{"type":2,"payload":"AAA","position":0}"#] {
            let (_directory, split) = layer(&[line.to_owned()]);
            split.size(false).unwrap_err();
            split.write(&mut Vec::new()).unwrap_err();
        }
        let mut cut = packed(&[bytes(&[7; 5000])]);
        cut.truncate(cut.len() - 10);
        parts(&cut[..], |_| Ok(())).unwrap_err();
    }
}
