//! What is said of a file that is no usable image archive.

use crate::error::{Code, Error};

/// An archive that is damaged or none.
pub(crate) fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::ArchiveInvalid, "the image archive cannot be used")
        .because(why)
        .hint("make it again: `docker save --output FILE IMAGE`; nothing was sent to a node")
}
