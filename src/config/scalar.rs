//! What a scalar is under the core schema of YAML 1.2.

use super::value::Value;

const CORE_TAG: &str = "tag:yaml.org,2002:";

/// The value of a scalar; `None` if the tag does not fit it.
///
/// Text in quotes and block scalars (not `plain`) are strings whatever the tag says. A tag that YAML does not
/// define, such as `!degree`, changes nothing.
pub(super) fn resolve(text: String, plain: bool, tag: Option<&str>) -> Option<Value> {
    if !plain {
        return Some(Value::Text(text, false));
    }
    let Some(kind) = tag.and_then(|tag| tag.strip_prefix(CORE_TAG)) else {
        return Some(resolve_plain(text, tag.is_none()));
    };
    let value = resolve_plain(text.clone(), false);
    match (kind, &value) {
        ("str", _) => Some(Value::Text(text, false)),
        ("null", Value::Null) | ("bool", Value::Bool(_)) | ("int", Value::Number(Some(_), _)) => Some(value),
        ("float", Value::Number(..)) => Some(Value::Number(None, text)),
        _ => None,
    }
}

fn resolve_plain(text: String, untagged: bool) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_integer(&text) => Value::Number(integer(&text), text),
        _ if is_float(&text) => Value::Number(None, text),
        _ => Value::Text(text, untagged),
    }
}

fn is_integer(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, |c| c.is_ascii_hexdigit());
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |c| c.is_digit(8));
    }
    all(text.strip_prefix(['-', '+']).unwrap_or(text), |c| c.is_ascii_digit())
}

/// The value of what [`is_integer`]; `None` if it does not fit in 64 bits.
fn integer(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i64::from_str_radix(digits, 16).ok();
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i64::from_str_radix(digits, 8).ok();
    }
    text.parse().ok()
}

/// Such as `1.5`, `.5`, `5.`, `-1e3` and `.inf`.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['-', '+']).unwrap_or(exponent)),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    all(&digits, |c| c.is_ascii_digit()) && all(exponent, |c| c.is_ascii_digit())
}

fn all(text: &str, is_allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::*;

    /// How a plain scalar resolves, for short comparisons.
    fn plain(text: &str) -> String {
        match resolve(text.to_owned(), true, None) {
            Some(Value::Number(number, written)) if written == text => format!("number {number:?}"),
            Some(Value::Text(written, true)) if written == text => "text".to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn plain_scalars_are_what_yaml_1_2_says() {
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(plain(text), "Some(Null)", "{text}");
        }
        for text in ["true", "True", "TRUE"] {
            assert_eq!(plain(text), "Some(Bool(true))", "{text}");
        }
        for (text, number) in [("012", 12), ("+5", 5), ("-0", 0), ("0x1F", 31), ("0o17", 15)] {
            assert_eq!(plain(text), format!("number Some({number})"), "{text}");
        }
        for text in ["1.5", ".5", "5.", "-1e3", "1E+3", "+.inf", ".NaN", "9223372036854775808", "0xffffffffffffffffff"]
        {
            assert_eq!(plain(text), "number None", "{text}");
        }
        for text in [
            "nULL",
            "tRUE",
            "yes",
            "on",
            "1_000",
            "0b1",
            "0x",
            "0o8",
            "0x-5",
            "+-5",
            "1e",
            "e1",
            ".",
            "-",
            "+",
            "-.nan",
            "inf",
            "NaN",
            "1.2.3",
            "10.0.0.1",
            "1:30",
            "2001-01-01",
            "<<",
            "=",
            "٣",
        ] {
            assert_eq!(plain(text), "text", "{text}");
        }
    }

    #[test]
    fn tags_and_quotes_win_over_the_look() {
        let tagged = |text: &str, tag: &str| {
            let value = resolve(text.to_owned(), true, Some(&tag.replace("!!", CORE_TAG)));
            value.map(|value| value.describe())
        };
        assert_eq!(tagged("5", "!!str").as_deref(), Some("the string `5`"));
        assert_eq!(tagged("", "!!str").as_deref(), Some("the string ``"));
        assert_eq!(tagged("5", "!!int").as_deref(), Some("the number `5`"));
        assert_eq!(tagged("5", "!!float").as_deref(), Some("the number `5`"));
        assert_eq!(tagged("true", "!!bool").as_deref(), Some("the boolean `true`"));
        assert_eq!(tagged("~", "!!null").as_deref(), Some("empty"));
        assert_eq!(tagged("5", "!degree").as_deref(), Some("the number `5`"));
        for (text, tag) in [("x", "!!int"), ("1.5", "!!int"), ("No", "!!bool"), ("x", "!!null"), ("5", "!!unknown")] {
            assert_eq!(tagged(text, tag), None, "{tag} {text}");
        }
        assert!(matches!(resolve("5".to_owned(), false, None), Some(Value::Text(_, false))));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn numbers_are_numbers_however_they_are_written(number in any::<i64>(), float in any::<f64>(), small in any::<u32>()) {
            assert_eq!(plain(&number.to_string()), format!("number Some({number})"));
            assert_eq!(plain(&format!("{small:#x}")), format!("number Some({small})"));
            assert_eq!(plain(&format!("{small:#o}")), format!("number Some({small})"));
            if float.is_finite() {
                assert_eq!(plain(&format!("{float:e}")), "number None");
                assert_eq!(plain(&format!("{float:?}")), "number None");
            }
        }

        /// What Rust reads as a number is one here, but for words, and the other way round.
        #[test]
        fn only_numbers_are_numbers(text in "[-+.0-9eExo_a]{1,8}") {
            let is_number = plain(&text).starts_with("number");
            let is_radix = text.starts_with("0x") || text.starts_with("0o");
            assert!(is_radix || is_number == text.parse::<f64>().is_ok(), "{text}");
        }
    }
}
