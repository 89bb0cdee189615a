//! What Kubernetes reports of its objects, in the order of time.

use serde::{Serialize, Serializer};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::kubernetes::{Client, object};

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When it was seen last.
    #[serde(serialize_with = "moment")]
    pub time: Option<OffsetDateTime>,
    /// Namespace of its object; empty for one that has none, such as a node.
    pub namespace: String,
    /// Kind of its object.
    pub kind: String,
    /// Name of its object.
    pub name: String,
    /// Whether something may be wrong.
    pub warning: bool,
    pub reason: String,
    pub message: String,
    /// How often it was seen.
    pub count: u64,
    /// What changes when it is seen again.
    #[serde(skip)]
    pub version: (String, String),
}

#[expect(clippy::ref_option, reason = "serde passes the field as it is")]
fn moment<S: Serializer>(time: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    time.and_then(|time| time.format(&Rfc3339).ok()).serialize(serializer)
}

/// Asks a cluster for its events.
pub struct Events {
    client: Client,
    path: String,
}

impl Events {
    /// Of a namespace of a cluster that runs, or of all.
    pub async fn of(engine: &dyn Engine, cluster: &Cluster, namespace: Option<&str>) -> Result<Self> {
        let client = access::client(engine, cluster).await?;
        let path = match namespace {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/events"),
            None => "/api/v1/events".to_owned(),
        };
        Ok(Self { client, path })
    }

    /// Those that the cluster remembers, the oldest one first.
    pub async fn list(&self) -> Result<Vec<Event>> {
        let list = self.client.get(&self.path).await.map_err(|failure| {
            Error::new(Code::ApiFailed, "cannot list the events")
                .because(failure.text())
                .hint("`coracle status` shows the health of the cluster")
        })?;
        Ok(read(&list))
    }
}

fn read(list: &Value) -> Vec<Event> {
    let mut events: Vec<Event> = object::items(list).iter().map(event).collect();
    events.sort_by(|one, other| (one.time, &one.version).cmp(&(other.time, &other.version)));
    events
}

fn event(event: &Value) -> Event {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = &event["involvedObject"];
    // One that is reported again and again has its last time in the series, where controllers use the newer API.
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["firstTimestamp"],
        &event["metadata"]["creationTimestamp"],
    ];
    let time = times.into_iter().find_map(|time| OffsetDateTime::parse(time.as_str()?, &Rfc3339).ok());
    let count = event["series"]["count"].as_u64().or_else(|| event["count"].as_u64()).unwrap_or(1);
    Event {
        time,
        namespace: text(&of["namespace"]),
        kind: text(&of["kind"]),
        name: text(&of["name"]),
        warning: event["type"] == "Warning",
        reason: text(&event["reason"]),
        message: text(&event["message"]).trim().replace('\n', " "),
        count: count.max(1),
        version: (text(&event["metadata"]["uid"]), text(&event["metadata"]["resourceVersion"])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_in_the_order_of_when_they_were_seen_last() {
        let pod = json!({"kind": "Pod", "namespace": "n", "name": "p"});
        let list = json!({"items": [
            {"metadata": {"uid": "1"}, "type": "Warning", "reason": "BackOff", "message": "a\nb", "count": 3,
                "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-03T00:00:00Z", "involvedObject": pod},
            {"metadata": {"uid": "2"}, "type": "Normal", "reason": "Scheduled", "message": "to w",
                "eventTime": "2026-01-02T00:00:00.123456Z", "lastTimestamp": null, "involvedObject": pod},
            {"metadata": {"uid": "3"}, "type": "Normal", "reason": "Late", "eventTime": "2026-01-01T00:00:00.5Z",
                "series": {"count": 7, "lastObservedTime": "2026-01-04T00:00:00.5Z"},
                "involvedObject": {"kind": "Node", "name": "w"}},
        ]});
        let events = read(&list);
        let reasons: Vec<&str> = events.iter().map(|event| event.reason.as_str()).collect();
        assert_eq!(reasons, ["Scheduled", "BackOff", "Late"]);
        assert_eq!((events[1].warning, events[1].count, events[1].message.as_str()), (true, 3, "a b"));
        assert_eq!((events[2].count, events[2].namespace.as_str(), events[2].kind.as_str()), (7, "", "Node"));
        assert_eq!(json!(events[1])["time"], "2026-01-03T00:00:00Z");
        assert!(json!(events[1]).get("version").is_none());
    }
}
