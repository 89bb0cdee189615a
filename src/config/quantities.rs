//! Go's and Kubernetes' spellings of numbers, durations and quantities.

use std::ops::RangeInclusive;

/// The values of a type of whole numbers, and what messages call it; `None` for other types.
pub(super) fn whole_number(of_type: &str) -> Option<(RangeInclusive<i128>, &'static str)> {
    let signed = |bits: u32| -(1_i128 << (bits - 1))..=(1_i128 << (bits - 1)) - 1;
    let unsigned = |bits: u32| 0..=(1_i128 << bits) - 1;
    Some(match of_type {
        "int8" => (signed(8), "a whole number of 8 bits"),
        "int16" => (signed(16), "a whole number of 16 bits"),
        "int32" | "Level" => (signed(32), "a whole number of 32 bits"),
        "int" | "int64" => (signed(64), "a whole number"),
        "uint8" => (unsigned(8), "a whole number from 0 to 255"),
        "uint16" => (unsigned(16), "a whole number from 0 to 65535"),
        "uint32" => (unsigned(32), "a whole number of 32 bits from 0 on"),
        "uint" | "uint64" => (unsigned(64), "a whole number from 0 on"),
        _ => return None,
    })
}

/// A whole number as Go's flags read it: `0x10`, `0o20`, `0b1` and `1_000` are numbers too.
pub(super) fn go_integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = digits.replace('_', "").to_lowercase();
    let (radix, digits) = match (digits.get(..2), digits.as_str()) {
        (Some("0x"), _) => (16, &digits[2..]),
        (Some("0o"), _) => (8, &digits[2..]),
        (Some("0b"), _) => (2, &digits[2..]),
        (_, "0") => (10, "0"),
        (_, octal) if octal.starts_with('0') => (8, &octal[1..]),
        (_, decimal) => (10, decimal),
    };
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

/// Splits a number such as `1.5` off; `None` if there is no digit.
fn after_number(text: &str) -> Option<&str> {
    let whole = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let rest = &text[whole..];
    let Some(fraction) = rest.strip_prefix('.') else { return (whole > 0).then_some(rest) };
    let digits = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    (whole + digits > 0).then(|| &fraction[digits..])
}

/// Whether Go reads this as a duration: `10s`, `1h30m`, `-1.5h`, `0`.
pub(super) fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut any = false;
    while !rest.is_empty() {
        let Some(behind) = after_number(rest) else { return false };
        let unit = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"].iter().find_map(|unit| behind.strip_prefix(unit));
        let Some(behind) = unit else { return false };
        (rest, any) = (behind, true);
    }
    any
}

/// Whether Kubernetes reads this as a quantity: `500Mi`, `0.5`, `100m`, `1e3`.
pub(super) fn is_quantity(text: &str) -> bool {
    let Some(suffix) = after_number(text.strip_prefix(['-', '+']).unwrap_or(text)) else { return false };
    let exponent = suffix.strip_prefix(['e', 'E']).filter(|digits| !digits.is_empty());
    let known = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    known.contains(&suffix) || exponent.is_some_and(|exponent| exponent.parse::<i32>().is_ok())
}

/// A quantity from 0 on, times `factor`, rounded up to a whole number; `None` for what is none, or is too large.
pub(super) fn scaled(text: &str, factor: u64) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text.starts_with('-') || !is_quantity(text) {
        return None;
    }
    let number = &text[..text.len() - after_number(text)?.len()];
    let suffix = &text[number.len()..];
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let ten = |power: usize| 10_u128.checked_pow(u32::try_from(power).ok()?);
    let (multiplier, divisor) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        _ => match ["k", "M", "G", "T", "P", "E"]
            .iter()
            .position(|unit| suffix.strip_suffix('i').unwrap_or(suffix).eq_ignore_ascii_case(unit))
        {
            Some(index) if suffix.ends_with('i') => (1024_u128.pow(u32::try_from(index + 1).ok()?), 1),
            Some(index) => (ten(3 * (index + 1))?, 1),
            None => match suffix[1..].parse::<i32>().ok()? {
                exponent if exponent < 0 => (1, ten(exponent.unsigned_abs() as usize)?),
                exponent => (ten(exponent.unsigned_abs() as usize)?, 1),
            },
        },
    };
    let numerator = mantissa.checked_mul(multiplier)?.checked_mul(factor.into())?;
    let divisor = ten(fraction.len())?.checked_mul(divisor)?;
    u64::try_from(numerator.div_ceil(divisor)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for good in ["0", "10s", "1h30m", "-1.5h", ".5s", "1.s", "2µs", "100ms", "1h0m0s"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["", "10", "s", "1d", "10 s", "1h30", "-", "."] {
            assert!(!is_duration(bad), "{bad}");
        }
    }

    #[test]
    fn quantities_are_kubernetes() {
        for good in ["1", "0.5", "100m", "500Mi", "1e3", "1E", "2E-2", "+1Ki"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "Mi", "1MB", "1 Gi", "1e", "ten", "1K"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }

    #[test]
    fn quantities_have_a_value() {
        for (text, factor, value) in [
            ("2Gi", 1, 2 << 30),
            ("1.5Gi", 1, 3 << 29),
            ("1500M", 1, 1_500_000_000),
            ("1e3", 1, 1000),
            ("1E", 1, 1_000_000_000_000_000_000),
            ("2E-2", 1000, 20),
            ("1.5", 1000, 1500),
            ("500m", 1000, 500),
            ("0.0001", 1000, 1),
            ("+1Ki", 1, 1024),
            (".5", 1000, 500),
        ] {
            assert_eq!(scaled(text, factor), Some(value), "{text}");
        }
        for bad in ["-1", "1K", "", "99999E", "1e400", "1e99999999999", "ten"] {
            assert_eq!(scaled(bad, 1), None, "{bad}");
        }
    }

    #[test]
    fn whole_numbers_of_flags_are_gos() {
        let numbers = [("0", 0), ("10", 10), ("-1", -1), ("1_000", 1000), ("0x10", 16), ("010", 8), ("+5", 5)];
        for (text, number) in numbers {
            assert_eq!(go_integer(text), Some(number), "{text}");
        }
        for bad in ["", "-", "1.0", "1e3", "ten", "09", "--1", "0x", "1-"] {
            assert_eq!(go_integer(bad), None, "{bad}");
        }
    }
}
