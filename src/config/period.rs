//! Periods of time, as people write them: `90s`, `5m`, `1h30m`, `2d`. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// The longest period, seconds: a year. Clocks overflow with much longer ones.
const MAX: u64 = 365 * DAY;
const DAY: u64 = 24 * HOUR;
const HOUR: u64 = 60 * 60;

/// A period in whole seconds, a year at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(u64);

impl Period {
    /// A period of this many seconds; one of more than a year is a year.
    pub const fn of_seconds(seconds: u64) -> Self {
        Self(if seconds > MAX { MAX } else { seconds })
    }

    pub const fn seconds(self) -> u64 {
        self.0
    }

    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for Period {
    type Err = String;

    /// `90s`, `5m`, `1h30m`, `2d` or a number of seconds.
    fn from_str(text: &str) -> Result<Self, String> {
        match seconds(text)? {
            seconds if seconds > MAX => Err(format!("`{text}` is longer than a year")),
            seconds => Ok(Self(seconds)),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        for (unit, name) in [(DAY, 'd'), (HOUR, 'h'), (60, 'm')] {
            if left >= unit {
                write!(f, "{}{name}", left / unit)?;
                left %= unit;
            }
        }
        if left > 0 || self.0 == 0 { write!(f, "{left}s") } else { Ok(()) }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration such as `90s`, `5m` or `1h30m`");
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..end].parse().map_err(|_| wrong())?;
        let seconds = match rest[end..].chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => HOUR,
            Some('d') => DAY,
            _ => return Err(wrong()),
        };
        total = number.checked_mul(seconds).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[end + 1..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_as_kind_users_write_them() {
        let seconds = |text: &str| text.parse().map(Period::seconds);
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("120s"), Ok(120));
        assert_eq!(seconds("1h2m3s"), Ok(3723));
        assert_eq!(seconds("2d"), Ok(172_800));
        assert_eq!(seconds("0s"), Ok(0));
        let overflow = ["99999999999999999h", "10000000000000000000s", "18446744073709551615s1s", "8761h", "31536001"];
        for wrong in ["", "s", "5x", "m5", "1.5m", "-1s", "5m3"].into_iter().chain(overflow) {
            assert!(wrong.parse::<Period>().unwrap_err().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["0s", "45s", "30m", "1h30m", "1d1s", "365d"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        assert_eq!(Period::of_seconds(u64::MAX).to_string(), "365d");
    }
}
