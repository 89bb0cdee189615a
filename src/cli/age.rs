//! Ages and ends of clusters, for people and for scripts.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cluster::lifecycle::lifetime::Limit;

/// A moment in seconds since the epoch, as JSON has it.
pub(super) fn moment(seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

/// How old something is that was created at this second.
pub(super) fn of(created: Option<i64>, now: OffsetDateTime) -> String {
    created.map(|created| short(now.unix_timestamp() - created)).unwrap_or_default()
}

/// When a cluster's time is over, as JSON has it: `null` if it has no limit.
pub(super) fn expires(limit: &Limit) -> Option<String> {
    match limit {
        Limit::None | Limit::Lifted => None,
        Limit::At(expiry) => Some(expiry.to_string()),
        Limit::Unknown => Some("unknown".to_owned()),
    }
}

/// How much time a cluster has left.
pub(super) fn left(limit: &Limit, now: OffsetDateTime) -> String {
    match limit {
        Limit::None | Limit::Lifted => "never".to_owned(),
        Limit::At(expiry) if expiry.is_over(now) => "over".to_owned(),
        Limit::At(expiry) => format!("in {}", short(expiry.seconds_from(now))),
        Limit::Unknown => "unknown".to_owned(),
    }
}

/// A line about the end of a cluster; nothing if it does not end by itself.
pub(super) fn sentence(limit: &Limit, idle_stop: Option<&str>, now: OffsetDateTime) -> String {
    let time = match limit {
        Limit::None => String::new(),
        Limit::Lifted => "Its limit was lifted; it lives until it is deleted\n".to_owned(),
        Limit::At(expiry) if expiry.is_over(now) => format!("It expired at {expiry}\n"),
        Limit::At(expiry) => format!("It expires at {expiry}, {}\n", left(limit, now)),
        Limit::Unknown => "It has a time limit, but its nodes cannot be read to find out when it ends\n".to_owned(),
    };
    let idle = idle_stop.map_or_else(String::new, |period| format!("It stops after {period} without use\n"));
    time + &idle
}

/// A period in its largest unit, and the next one where that says more, as kubectl shows ages.
fn short(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds.max(0) {
        0..120 => format!("{}s", seconds.max(0)),
        120..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        120..7200 => format!("{minutes}m"),
        7200..172_800 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        7200..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_as_kubectl_shows_them() {
        let seconds = [-5, 0, 119, 120, 185, 700, 7200, 9000, 172_800, 900_000];
        assert_eq!(seconds.map(short), ["0s", "0s", "119s", "2m", "3m5s", "11m", "2h", "2h30m", "2d", "10d"]);
    }

    #[test]
    fn an_end_is_told_in_a_line_of_its_own() {
        let now = OffsetDateTime::from_unix_timestamp(1_795_900_000).unwrap();
        let at = |text: &str| Limit::At(text.parse().unwrap());
        assert_eq!(sentence(&Limit::None, None, now), "");
        assert_eq!(
            sentence(&at("2026-11-28T23:06:40Z"), Some("30m"), now),
            "It expires at 2026-11-28T23:06:40Z, in 2h\nIt stops after 30m without use\n"
        );
        assert_eq!(left(&at("2026-11-28T01:00:00Z"), now), "over");
        assert_eq!(
            (left(&Limit::Lifted, now), expires(&Limit::Unknown)),
            ("never".to_owned(), Some("unknown".to_owned()))
        );
    }
}
