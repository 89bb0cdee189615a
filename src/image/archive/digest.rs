//! Digests, as registries and engines write them.

use sha2::{Digest, Sha256};

/// The digest of everything that was hashed.
pub(crate) fn finish(hash: Sha256) -> String {
    format!("sha256:{:x}", hash.finalize())
}

/// The digest of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    finish(Sha256::new_with_prefix(bytes))
}
