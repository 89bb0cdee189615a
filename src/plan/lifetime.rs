//! When a cluster's time is over: a moment in UTC, in a label and in a file of every node. Pure.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::Period;

/// The file in every node with the moment at which it ends: seconds since the epoch, then the same for people.
pub const EXPIRES: &str = "/etc/coracle/expires";
/// What the file has instead if someone lifted the limit.
const NEVER: &str = "never";

/// A moment in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry(OffsetDateTime);

impl Expiry {
    /// The moment that is `period` after `now`.
    pub fn after(now: OffsetDateTime, period: Period) -> Self {
        let seconds = now.unix_timestamp().saturating_add(i64::try_from(period.seconds()).unwrap_or(i64::MAX));
        // Both are far from the ends of the calendar.
        Self(OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(now))
    }

    /// Whether it is over.
    pub fn is_over(self, now: OffsetDateTime) -> bool {
        now >= self.0
    }

    /// How far away it is, in seconds; negative once it is over.
    pub fn seconds_from(self, now: OffsetDateTime) -> i64 {
        self.0.unix_timestamp() - now.unix_timestamp()
    }
}

/// `2026-11-28T23:00:00Z`.
impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Expiry {
    type Err = time::error::Parse;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        OffsetDateTime::parse(text, &Rfc3339).map(Self)
    }
}

/// The content of [`EXPIRES`]; `None` is a limit that was lifted.
pub fn file(expiry: Option<Expiry>) -> String {
    match expiry {
        Some(expiry) => format!("{} {expiry}\n", expiry.0.unix_timestamp()),
        None => format!("{NEVER}\n"),
    }
}

/// What [`EXPIRES`] says: a moment, or `None` for never. The error is that it says nothing.
pub fn read(text: &str) -> Result<Option<Expiry>, String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if first == NEVER {
        return Ok(None);
    }
    let seconds = first.parse().ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    seconds.map(|at| Some(Expiry(at))).ok_or_else(|| format!("{EXPIRES} is unreadable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_in_the_label_and_in_the_file() {
        let now = OffsetDateTime::from_unix_timestamp(1_795_900_000).unwrap();
        let expiry = Expiry::after(now, Period::of_seconds(7200));
        assert_eq!(expiry.to_string(), "2026-11-28T23:06:40Z");
        assert_eq!(expiry.to_string().parse(), Ok(expiry));
        assert_eq!(file(Some(expiry)), "1795907200 2026-11-28T23:06:40Z\n");
        assert_eq!(read(&file(Some(expiry))), Ok(Some(expiry)));
        assert_eq!(read(&file(None)), Ok(None));
        assert!(read("").is_err() && read("soon").is_err());
        assert!(!expiry.is_over(now) && expiry.is_over(now + time::Duration::hours(2)));
        assert_eq!(expiry.seconds_from(now), 7200);
    }
}
