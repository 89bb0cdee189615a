//! YAML that Go's parsers read back unchanged, and YAML with the place of everything in it.

use serde::Serialize;

use crate::error::{Code, Error, Result};

pub(crate) mod outline;
mod panics;

/// Serializes `value` as one block-style YAML document.
///
/// The `serde_yaml` family writes `yes`, `on` and `1_000` bare, and Go reads those as booleans and
/// numbers; `serde-saphyr` quotes them. Text without line ends stays on one line.
pub fn to_string<T: Serialize>(value: &T) -> Result<String> {
    // Folding is for prose; what is written here are keys, flags and names, which people search for.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(value, options)
        .map_err(|source| Error::new(Code::StepFailed, "cannot write YAML").cause(&source))
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
}
