//! Image archives: what a file or a directory holds. How its images get into nodes is the matter of `load`.

pub(crate) mod digest;
mod directory;
mod docker;
pub(crate) mod images;
mod invalid;
pub(crate) mod layout;
mod meter;
mod oci;
pub(crate) mod scan;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod verified;
