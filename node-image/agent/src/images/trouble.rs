//! What goes wrong with images, before the command is told.

use std::io;

use coracle_shared::wire::{Failure, Reason};

pub(super) type Result<T, E = Trouble> = std::result::Result<T, E>;

/// What containerd and others call a full disk.
const FULL: &[&str] = &["no space left on device", "disk quota exceeded"];

/// A failure on its way to the command.
#[derive(Debug)]
pub(super) struct Trouble {
    pub reason: Reason,
    pub message: String,
}

impl From<Trouble> for Failure {
    fn from(Trouble { reason, message }: Trouble) -> Self {
        Self { reason, message }
    }
}

impl From<io::Error> for Trouble {
    fn from(source: io::Error) -> Self {
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        Self { reason: if full { Reason::DiskFull } else { Reason::Other }, message: source.to_string() }
    }
}

/// A failure whose kind only its text shows.
pub(super) fn failed(message: impl Into<String>) -> Trouble {
    let message = message.into();
    let text = message.to_lowercase();
    let full = FULL.iter().any(|words| text.contains(words));
    Trouble { reason: if full { Reason::DiskFull } else { Reason::Other }, message }
}

/// What was sent is not what it should be.
pub(super) fn damaged(message: impl Into<String>) -> Trouble {
    Trouble { reason: Reason::Damaged, message: message.into() }
}
