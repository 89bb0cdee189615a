//! How long a cluster lives: until its time is over, and until no one has used it for long enough.

use super::reader::{Fields, Reader};
use super::{ClusterConfig, Period};

/// A cluster takes about this long to be created; one that lives shorter is a mistake.
const MIN_SECONDS: u64 = 10;

pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>, cluster: &mut ClusterConfig) {
    for (name, period) in [("ttl", &mut cluster.ttl), ("idleStop", &mut cluster.idle_stop)] {
        if let Some(value) = fields.get(name) {
            *period = reader.parsed(value, limit).flatten();
        }
    }
}

/// Applies `--ttl` and `--idle-stop` of the command line.
pub(super) fn apply(reader: &mut Reader<'_>, cluster: &mut ClusterConfig, ttl: Option<&str>, idle_stop: Option<&str>) {
    for (flag, text, period) in [("--ttl", ttl, &mut cluster.ttl), ("--idle-stop", idle_stop, &mut cluster.idle_stop)] {
        match text.map(limit) {
            Some(Ok(limit)) => *period = limit,
            Some(Err(message)) => reader.flag_problem(flag, message),
            None => {}
        }
    }
}

/// A period that limits a cluster; no time at all is no limit.
fn limit(text: &str) -> Result<Option<Period>, String> {
    let period: Period = text.parse()?;
    match period.seconds() {
        0 => Ok(None),
        seconds if seconds < MIN_SECONDS => {
            Err(format!("`{text}` is shorter than {MIN_SECONDS} s; `0s` means no limit"))
        }
        _ => Ok(Some(period)),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, load};

    fn body(text: &str, overrides: &Overrides) -> crate::error::Result<crate::config::ClusterConfig> {
        load(&format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{text}"), "c.yaml", overrides)
    }

    #[test]
    fn a_limit_is_read_written_and_overridden() {
        let cluster = body("ttl: 2h\nidleStop: 90m\n", &Overrides::default()).unwrap();
        let text = |period: Option<crate::config::Period>| period.map(|period| period.to_string());
        assert_eq!((text(cluster.ttl), text(cluster.idle_stop)), (Some("2h".to_owned()), Some("1h30m".to_owned())));
        assert_eq!(load(&cluster.to_text().unwrap(), "again.yaml", &Overrides::default()).unwrap(), cluster);
        let flags = Overrides { ttl: Some("0s".to_owned()), idle_stop: Some("30m".to_owned()), ..Overrides::default() };
        let cluster = body("ttl: 2h\nidleStop: 90m\n", &flags).unwrap();
        assert_eq!((text(cluster.ttl), text(cluster.idle_stop)), (None, Some("30m".to_owned())));
    }

    #[test]
    fn what_is_no_limit_is_reported_at_its_place() {
        let flags = Overrides { ttl: Some("soon".to_owned()), ..Overrides::default() };
        let error = body("ttl: 5s\nidleStop: 30\n", &flags).unwrap_err();
        let places: Vec<&str> = error.problems().iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, ["--ttl", "c.yaml:3:6", "c.yaml:4:11"], "{:#?}", error.problems());
    }
}
