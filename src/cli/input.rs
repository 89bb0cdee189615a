//! Standard input, without keeping a command that is interrupted, and configuration files.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use crate::config::upstream::Written;
use crate::config::{self, Overrides};
use crate::error::{Code, Error, Result};

/// Bytes of standard input that are read at once.
const PIECE: usize = 64 << 10;

/// Reads all of standard input as text; a thread that still waits for it ends with the process.
pub(crate) async fn read() -> Result<String> {
    let reading = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    let failed = |source: &dyn std::error::Error| Error::new(Code::FileFailed, "cannot read `-`").with_cause(source);
    reading.await.map_err(|source| failed(&source))?.map_err(|source| failed(&source))
}

/// Standard input as it comes; the thread that reads it ends with the process.
pub(crate) fn pieces() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = vec![0; PIECE];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) if sender.blocking_send(buffer[..count].to_vec()).is_err() => return,
                Ok(_) => {}
                Err(source) if source.kind() == ErrorKind::Interrupted => {}
                // As at the end of the input, such as when its terminal is gone.
                Err(_) => return,
            }
        }
    });
    receiver
}

/// The code of a file that was named in the command line and cannot be read: a name that is wrong is a wrong command line.
pub(crate) fn code(source: &std::io::Error) -> Code {
    match source.kind() {
        ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory => Code::UsageInvalid,
        _ => Code::FileFailed,
    }
}

/// A configuration file.
pub(crate) struct Source {
    pub(super) written: Written,
    /// Where its relative paths start.
    pub(super) base_directory: Option<PathBuf>,
}

/// Reads a configuration file, or standard input if it is called `-`.
pub(crate) async fn configuration(path: &Path) -> Result<Source> {
    let file = path.display().to_string();
    let failed = |source: std::io::Error| {
        Error::new(code(&source), format!("cannot read `{file}`"))
            .with_cause(&source)
            .hint("correct the path; `coracle config init` writes a first configuration file")
    };
    let text = if file == "-" { read().await? } else { std::fs::read_to_string(path).map_err(failed)? };
    let base_directory = base_directory(path, &text);
    Ok(Source { written: Written { file, text }, base_directory })
}

/// The directory of the file. Paths in files of kind are relative to where it is called; only what is not there can be meant
/// beside the file.
fn base_directory(path: &Path, text: &str) -> Option<PathBuf> {
    let working = std::env::current_dir().ok();
    let of_file = std::path::absolute(path).ok().and_then(|path| path.parent().map(PathBuf::from));
    if path == Path::new("-") || (config::is_of_kind(text) && has_mounts(text, working.clone())) {
        return working;
    }
    of_file.or(working)
}

/// Whether the host has all directories and files that the nodes of a file mount.
fn has_mounts(text: &str, base_directory: Option<PathBuf>) -> bool {
    let cluster = config::load(text, "", &Overrides { base_directory, ..Overrides::default() });
    cluster.is_ok_and(|cluster| {
        let mut mounts = cluster.nodes.iter().flat_map(|node| &node.extra_mounts);
        mounts.all(|mount| Path::new(&mount.host_path).exists())
    })
}
