//! YAML that Go's parsers read back unchanged.

use serde::Serialize;

use crate::error::{Code, Error, Result};

/// Serializes `value` as one block-style YAML document.
///
/// The `serde_yaml` family writes `yes`, `on` and `1_000` bare, and Go reads those as booleans and
/// numbers; `serde-saphyr` quotes them.
pub fn to_string<T: Serialize>(value: &T) -> Result<String> {
    serde_saphyr::to_string(value).map_err(|source| Error::new(Code::StepFailed, "cannot write YAML").cause(&source))
}
