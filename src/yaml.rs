//! YAML that Go's parsers read back unchanged, YAML with the place of everything in it, and manifests.

use serde::Serialize;

use crate::error::{Code, Error, Result};

pub mod manifest;
pub(crate) mod outline;
mod panics;
pub(crate) mod places;
mod scalar;

/// Serializes `value` as one YAML document in block style.
///
/// The `serde_yaml` family writes `yes`, `on` and `1_000` without quotes, and Go reads those as booleans and
/// numbers; `serde-saphyr` quotes them. Text without line ends stays on one line.
pub fn to_string<T: Serialize>(value: &T) -> Result<String> {
    let text = write(value, true)?;
    // A block scalar that begins with a tab is one that Go's parser refuses, and so does its port here.
    if outline::parse_only(&text).is_ok() { Ok(text) } else { write(value, false) }
}

fn write<T: Serialize>(value: &T, prefer_block_scalars: bool) -> Result<String> {
    // Folding is for prose; this writes keys, flags and names, which people search for.
    let options =
        serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX, prefer_block_scalars: prefer_block_scalars };
    serde_saphyr::to_string_with_options(value, options)
        .map_err(|source| Error::new(Code::StepFailed, "cannot write YAML").with_cause(&source))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_text_stays_on_one_line() {
        let words = "word ".repeat(60) + "end";
        assert_eq!(to_string(&json!({ "a": words })).unwrap(), format!("a: {words}\n"));
    }

    #[test]
    fn what_yaml_1_1_would_change_is_quoted() {
        for text in ["yes", "Off", "y", "~", "1_000", "012", "0o17", "1e3", "1:30", "2001-01-01", "<<", "=", ".inf", ""]
        {
            let yaml = to_string(&json!([text])).unwrap();
            assert!(yaml.starts_with("- '") || yaml.starts_with("- \""), "{yaml}");
        }
    }

    #[test]
    fn text_that_begins_with_a_tab_can_be_read() {
        assert_eq!(to_string(&json!({ "a": "log\n\terrors" })).unwrap(), "a: |-\n  log\n  \terrors\n");
        let yaml = to_string(&json!({ "a": "\tlog\n\terrors" })).unwrap();
        assert_eq!(yaml, "a: \"\\tlog\\n\\terrors\"\n");
        assert!(outline::parse_only(&yaml).is_ok());
    }
}
