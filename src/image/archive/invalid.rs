//! The error for a file that is no usable image archive.

use crate::error::{Code, Error};

/// The file is damaged, or no image archive.
pub(crate) fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::ArchiveInvalid, "the image archive cannot be used")
        .because(why)
        .hint("create it again with `docker save --output FILE IMAGE`; nothing was sent to the nodes")
}
