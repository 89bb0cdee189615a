//! What a scalar is to kubectl: YAML 1.1, as the Go parser that Kubernetes uses reads it.
//!
//! That parser is a fork of go-yaml 2, whose `resolve.go` this follows rule by rule: `0400` is 256, `y` is true
//! even as a key, and `1_000` is a number. `tests/kubeconfig/manifests.rs` compares the two.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Number, Value};

const CORE_TAG: &str = "tag:yaml.org,2002:";

/// A scalar's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Integer(i64),
    /// An integer above the largest signed one.
    Large(u64),
    Float(f64),
    Text(String),
}

/// The value of a scalar, or why its tag does not fit it.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Result<Scalar, String> {
    let as_text = || Ok(Scalar::Text(text.to_owned()));
    let Some(tag) = tag else {
        return Ok(if plain { resolve_plain(text) } else { Scalar::Text(text.to_owned()) });
    };
    // A tag wins over quotes: `!!int "5"` is a number.
    let value = match tag.strip_prefix(CORE_TAG) {
        Some("bool" | "int" | "float" | "null") => resolve_plain(text),
        Some("binary") => return binary(text).map(Scalar::Text),
        Some("timestamp") if !is_date(text) => return Err(format!("`{text}` is not a time")),
        // Tags that the parser does not know, and `!`, make text of everything.
        _ => return as_text(),
    };
    match (tag.trim_start_matches(CORE_TAG), value) {
        ("bool", value @ Scalar::Bool(_))
        | ("int", value @ (Scalar::Integer(_) | Scalar::Large(_)))
        | ("float", value @ Scalar::Float(_))
        | ("null", value @ Scalar::Null) => Ok(value),
        #[expect(clippy::cast_precision_loss, reason = "this is what kubectl does")]
        ("float", Scalar::Integer(value)) => Ok(Scalar::Float(value as f64)),
        (name, _) => Err(format!("`{text}` does not fit its tag `!!{name}`")),
    }
}

/// Whether this unquoted text is something else than text.
fn resolve_plain(text: &str) -> Scalar {
    let word = match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Scalar::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(Scalar::Bool(true)),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(Scalar::Bool(false))
        }
        ".nan" | ".NaN" | ".NAN" => Some(Scalar::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(Scalar::Float(f64::INFINITY)),
        "-.inf" | "-.Inf" | "-.INF" => Some(Scalar::Float(f64::NEG_INFINITY)),
        _ => None,
    };
    let number = || match text.bytes().next()? {
        b'.' => float(text),
        b'0'..=b'9' | b'+' | b'-' => {
            let digits = text.replace('_', "");
            integer(&digits).or_else(|| float(&digits))
        }
        _ => None,
    };
    word.or_else(number).unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

/// What Go's `ParseInt` or `ParseUint` makes of the text when the text itself says the base.
fn integer(text: &str) -> Option<Scalar> {
    let (sign, unsigned) = match text.as_bytes().first() {
        Some(b'-') => ("-", &text[1..]),
        Some(b'+') => ("+", &text[1..]),
        _ => ("", text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', _, ..] => (16, &lower[2..]),
        [b'0', b'o', _, ..] => (8, &lower[2..]),
        [b'0', b'b', _, ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // The parser takes a sign here as well.
    if let Some(digits) = text.strip_prefix("0b").filter(|digits| digits.starts_with(['-', '+'])) {
        return i64::from_str_radix(digits, 2).ok().map(Scalar::Integer);
    }
    // Rust would take another sign everywhere.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    if let Ok(value) = i64::from_str_radix(&format!("{sign}{digits}"), base) {
        return Some(Scalar::Integer(value));
    }
    u64::from_str_radix(digits, base).ok().filter(|_| sign.is_empty()).map(Scalar::Large)
}

/// A number with digits; what is too large for a float stays text.
fn float(text: &str) -> Option<Scalar> {
    let is_number = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    text.parse().ok().filter(|value: &f64| is_number && value.is_finite()).map(Scalar::Float)
}

/// The text that a `!!binary` holds; each byte that is no UTF-8 is replaced, as kubectl does.
fn binary(text: &str) -> Result<String, String> {
    let packed = text.replace(['\r', '\n'], "");
    let bytes = BASE64_STANDARD.decode(packed).map_err(|_| "the `!!binary` value is not base64".to_owned())?;
    let (mut text, mut rest) = (String::new(), bytes.as_slice());
    // A whole character that is cut short is one replacement in Rust, and one for each of its bytes in Go.
    while !rest.is_empty() {
        let valid = rest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        text.push_str(valid);
        rest = &rest[valid.len()..];
        if !rest.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[1..];
        }
    }
    Ok(text)
}

/// Whether the text begins as a date does, such as `2001-01-01`.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let mut part = |lengths: std::ops::RangeInclusive<usize>| {
        let digits = parts.next().map_or(0, |part| part.bytes().take_while(u8::is_ascii_digit).count());
        lengths.contains(&digits)
    };
    part(4..=4) && part(1..=2) && part(1..=2)
}

impl Scalar {
    /// The value in JSON; `None` for what JSON does not have.
    pub(super) fn into_json(self) -> Option<Value> {
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Integer(value) => Value::from(value),
            #[expect(clippy::cast_precision_loss, reason = "this is what kubectl does")]
            Self::Large(value) => Value::from(value as f64),
            Self::Float(value) => number(value)?,
            Self::Text(text) => Value::String(text),
        })
    }

    /// The text of a key; `None` for what cannot be one.
    pub(super) fn into_key(self) -> Option<String> {
        match self {
            Self::Null | Self::Large(_) => None,
            Self::Bool(value) => Some(value.to_string()),
            Self::Integer(value) => Some(value.to_string()),
            Self::Float(value) => Some(float_key(value)),
            Self::Text(text) => Some(text),
        }
    }
}

/// A float in JSON: `1.0` and `1e3` are integers there, as Go writes them.
pub(super) fn number(value: f64) -> Option<Value> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if value.fract() == 0.0 && (-LIMIT..LIMIT).contains(&value) {
        #[expect(clippy::cast_possible_truncation, reason = "it is in the range, and has no fraction")]
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number)
}

/// A float as a key, which Go writes with the digits of a 32-bit one: `1e+06`, `0.5`.
fn float_key(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            ".nan"
        } else if value > 0.0 {
            ".inf"
        } else {
            "-.inf"
        }
        .to_owned();
    }
    #[expect(clippy::cast_possible_truncation, reason = "this is what kubectl does")]
    let short = value as f32;
    if short.is_infinite() {
        return if short > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{short:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{short}")
}
