//! What an API server that answers warns of: events of the last minute.

use serde_json::Value;

use crate::kubernetes::{Client, object};

const EVENTS: &str = "/api/v1/events?fieldSelector=type%3DWarning&limit=500";
/// Only the newest count.
const MAX_WARNINGS: usize = 40;

/// The warnings, the oldest first; none if the API server does not answer.
pub(super) async fn read(client: &Client) -> Vec<String> {
    client.get(EVENTS).await.map(|events| of(&events)).unwrap_or_default()
}

fn of(events: &Value) -> Vec<String> {
    let mut dated: Vec<(&str, String)> = object::items(events).iter().map(|event| (time(event), line(event))).collect();
    dated.sort();
    let skip = dated.len().saturating_sub(MAX_WARNINGS);
    dated.into_iter().skip(skip).map(|(_, line)| line).collect()
}

/// When it was last seen.
fn time(event: &Value) -> &str {
    let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
    times.into_iter().find_map(Value::as_str).unwrap_or_default()
}

fn line(event: &Value) -> String {
    let of = &event["involvedObject"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}: {}: {}", text(&of["kind"]), text(&of["name"]), text(&event["reason"]), text(&event["message"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_warning_is_the_last() {
        let event = |name: &str, time: &str| json!({"involvedObject": {"kind": "Pod", "name": name}, "reason": "Failed", "message": "no", "lastTimestamp": time});
        let events = json!({"items": [event("b", "2026-11-29T09:00:02Z"), event("a", "2026-11-29T09:00:01Z")]});
        assert_eq!(of(&events), ["Pod a: Failed: no", "Pod b: Failed: no"]);
    }
}
