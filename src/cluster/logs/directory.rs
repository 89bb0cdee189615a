//! The directory for gathered logs. What others wrote goes through it: neither keys nor paths that lead elsewhere do.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Code, Error, Result};

/// Beginning and end of what must not be passed on; the kind of key stands in between.
const KEY_BEGIN: &[u8] = b"-----BEGIN ";
const KEY_NAME: &[u8] = b"PRIVATE KEY-----";
const KEY_END: &[u8] = b"-----END ";
/// Longest kind of key, such as `RSA ` or `ENCRYPTED `.
const MAX_KIND: usize = 24;
/// Length of a key without an end, bytes.
const MAX_KEY: usize = 16 << 10;
const REPLACED: &[u8] = b"REDACTED PRIVATE KEY";
/// Where the links of container names lead, in the node.
const LINKED: &str = "/var/log/";
/// The file that lists what could not be had.
const PROBLEMS: &str = "problems.txt";

/// What was gathered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogExport {
    pub directory: PathBuf,
    /// Number of files written.
    pub files: usize,
    /// Their size, bytes.
    pub bytes: u64,
    /// What could not be had, and why; also in `problems.txt`.
    pub problems: Vec<String>,
}

/// A directory of logs; directories in it share the count.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
    name: String,
    tally: Arc<Mutex<Tally>>,
}

#[derive(Debug, Default)]
struct Tally {
    files: usize,
    bytes: u64,
    problems: Vec<String>,
}

impl Directory {
    /// Creates the directory and its parents.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        create_directory(path)?;
        Ok(Self { path: path.to_owned(), name: String::new(), tally: Arc::default() })
    }

    /// A directory in it.
    pub(crate) fn directory(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        create_directory(&path)?;
        Ok(Self { path, name: format!("{}{name}/", self.name), tally: Arc::clone(&self.tally) })
    }

    /// Notes what could not be had.
    pub(crate) fn problem(&self, item: &str, why: &dyn std::fmt::Display) {
        if let Ok(mut tally) = self.tally.lock() {
            tally.problems.push(format!("{}{item}: {why}", self.name));
        }
    }

    /// Writes a file, without the private keys that it may contain.
    pub(crate) fn write(&self, file: &str, content: Vec<u8>) {
        let content = without_keys(content);
        let path = self.path.join(file);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, &content));
        match written {
            Ok(()) => {
                if let Ok(mut tally) = self.tally.lock() {
                    tally.files += 1;
                    tally.bytes += content.len() as u64;
                }
            }
            Err(source) => self.problem(file, &source),
        }
    }

    /// Writes text.
    pub(crate) fn text(&self, file: &str, text: &str) {
        self.write(file, text.as_bytes().to_vec());
    }

    /// Writes JSON.
    pub(crate) fn json(&self, file: &str, value: &Value) {
        self.text(file, &format!("{value:#}\n"));
    }

    /// Writes the one file of a tar.
    pub(crate) fn only_file(&self, file: &str, tar: &[u8]) {
        let mut content = Vec::new();
        let read = tar::Archive::new(tar).entries().and_then(|mut entries| match entries.next() {
            Some(entry) => entry?.read_to_end(&mut content),
            None => Ok(0),
        });
        match read {
            Ok(_) => self.write(file, content),
            Err(source) => self.problem(file, &source),
        }
    }

    /// Unpacks a compressed tar.
    pub(crate) fn unpack_gzip(&self, packed: &[u8]) {
        self.unpack_from(flate2::read::GzDecoder::new(packed));
    }

    /// Unpacks a tar.
    pub(crate) fn unpack(&self, tar: &[u8]) {
        self.unpack_from(tar);
    }

    fn unpack_from(&self, tar: impl Read) {
        let mut links = Vec::new();
        if let Err(source) = self.unpack_files(tar, &mut links) {
            self.problem("the rest of its logs", &source);
        }
        // Only now does everything exist that they lead to.
        for (link, target) in links {
            self.link(&link, &target);
        }
    }

    fn unpack_files(&self, tar: impl Read, links: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = inside(&entry.path()?);
            match entry.header().entry_type() {
                tar::EntryType::Regular => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content)?;
                    self.write(&path.to_string_lossy(), content);
                }
                tar::EntryType::Symlink => {
                    links.push((path, entry.link_name()?.unwrap_or_default().into_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Turns a link of the node into one of the directory.
    fn link(&self, link: &Path, target: &Path) {
        let name = link.to_string_lossy();
        let inner = target.strip_prefix(LINKED).map(inside).unwrap_or_default();
        if inner.as_os_str().is_empty() || link.parent().is_none() {
            return self.problem(&name, &"it leads out of the logs");
        }
        // The link of a removed container remains for a moment.
        if self.path.join(&inner).exists() {
            let up: PathBuf = link.components().skip(1).map(|_| "..").collect();
            let place = self.path.join(link);
            let made = place.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
                // It may be left from a previous export into the same directory.
                fs::remove_file(&place).or_else(|source| match source.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(source),
                })?;
                symlink(&up.join(&inner), &place)
            });
            if let Err(source) = made {
                self.problem(&name, &source);
            }
        }
    }

    /// Lists the problems in a file, and counts.
    pub(crate) fn finish(self) -> LogExport {
        let mut problems = self.tally.lock().map(|tally| tally.problems.clone()).unwrap_or_default();
        problems.sort();
        // The file of a previous export into the same directory says nothing about this one.
        if problems.is_empty() {
            let _ = fs::remove_file(self.path.join(PROBLEMS));
        } else {
            self.text(PROBLEMS, &format!("{}\n", problems.join("\n")));
        }
        let (files, bytes) = self.tally.lock().map(|tally| (tally.files, tally.bytes)).unwrap_or_default();
        LogExport { directory: self.path, files, bytes, problems }
    }
}

fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| {
        Error::new(Code::FileFailed, format!("cannot create directory `{}`", path.display()))
            .with_cause(&source)
            .hint("name a directory that you may write to: `coracle export logs DIR`")
    })
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    fs::write(link, target.to_string_lossy().as_bytes())
}

/// The path without anything that leads out of the directory.
fn inside(path: &Path) -> PathBuf {
    path.components().filter(|component| matches!(component, Component::Normal(_))).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Replaces each private key, also one whose lines are indented or prefixed.
fn without_keys(content: Vec<u8>) -> Vec<u8> {
    if find(&content, KEY_NAME).is_none() {
        return content;
    }
    let mut clean = Vec::with_capacity(content.len());
    let mut rest = content.as_slice();
    while let Some(at) = find(rest, KEY_BEGIN) {
        let after = &rest[at + KEY_BEGIN.len()..];
        let near = &after[..after.len().min(MAX_KIND + KEY_NAME.len())];
        clean.extend_from_slice(&rest[..at]);
        let Some(name) = find(near, KEY_NAME) else {
            clean.extend_from_slice(KEY_BEGIN);
            rest = after;
            continue;
        };
        clean.extend_from_slice(REPLACED);
        let body = &after[name + KEY_NAME.len()..];
        let key = &body[..body.len().min(MAX_KEY)];
        let end = find(key, KEY_END).and_then(|end| Some(end + find(&key[end..], KEY_NAME)? + KEY_NAME.len()));
        rest = &body[end.unwrap_or(key.len())..];
    }
    clean.extend_from_slice(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> String {
        String::from_utf8(without_keys(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn keys_are_removed_wherever_they_are() {
        for kind in ["", "EC ", "RSA ", "ENCRYPTED ", "OPENSSH "] {
            let text = format!("a -----BEGIN {kind}PRIVATE KEY-----\nt MHc\nt -----END {kind}PRIVATE KEY----- b");
            assert_eq!(cleaned(&text), "a REDACTED PRIVATE KEY b");
        }
        let certificate = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";
        assert_eq!(cleaned(certificate), certificate);
        let both = format!("{certificate}-----BEGIN PRIVATE KEY-----\nMHc\n-----END PRIVATE KEY-----\n{certificate}");
        assert_eq!(cleaned(&both), format!("{certificate}REDACTED PRIVATE KEY\n{certificate}"));
        assert_eq!(cleaned("x -----BEGIN PRIVATE KEY-----\nMHc cut off"), "x REDACTED PRIVATE KEY");
    }

    #[test]
    fn paths_stay_inside() {
        for (path, clean) in [("/etc/passwd", "etc/passwd"), ("../../x", "x"), ("a/./b/../c", "a/b/c")] {
            assert_eq!(inside(Path::new(path)), Path::new(clean));
        }
    }
}
