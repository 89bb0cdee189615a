//! Failures, as the command is told of them.

use std::io;

use coracle_shared::wire::{Failure, Reason};

/// What can fail and say why.
pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What a full disk is called, by containerd and others.
const FULL: &[&str] = &["no space left on device", "disk quota exceeded"];

/// A failure of which only its text tells the kind.
pub(super) fn failed(message: impl Into<String>) -> Failure {
    let message = message.into();
    let text = message.to_lowercase();
    let full = FULL.iter().any(|words| text.contains(words));
    Failure { reason: if full { Reason::DiskFull } else { Reason::Other }, message }
}

/// What was sent is not what it should be.
pub(super) fn damaged(message: impl Into<String>) -> Failure {
    Failure { reason: Reason::Damaged, message: message.into() }
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        Self { reason: if full { Reason::DiskFull } else { Reason::Other }, message: source.to_string() }
    }
}
