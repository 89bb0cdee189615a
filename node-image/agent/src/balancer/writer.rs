//! Writes addresses to statuses, and the reasons for missing ones to events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Method;
use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep};

use super::allocate::{Change, plan};
use super::service::{Service, Services};
use crate::api::Api;
use crate::log::{self, Failures};
use crate::moment;
use crate::object::NamespacedName;

/// A cause is reported again after this time: the API forgets events after an hour.
const REMINDER_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// The pause after a failed write.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Writes for all services while this node is the writer.
pub(crate) struct Writer<'a> {
    api: &'a Api<'a>,
    subnets: &'a [IpNet],
    node: &'a str,
    /// The cause that was last reported for each service, and when.
    told: BTreeMap<NamespacedName, (String, Instant)>,
    failures: Failures,
}

impl<'a> Writer<'a> {
    /// Nothing was reported yet.
    pub(crate) fn new(api: &'a Api<'a>, subnets: &'a [IpNet], node: &'a str) -> Self {
        Self { api, subnets, node, told: BTreeMap::new(), failures: Failures::default() }
    }

    /// Runs forever; writes only while `turn` is true.
    pub(crate) async fn run(
        mut self,
        mut services: Receiver<Option<Services>>,
        mut turn: Receiver<bool>,
    ) -> Infallible {
        loop {
            let mut pause = REMINDER_INTERVAL;
            let current = services.borrow_and_update().clone();
            if let Some(current) = current.filter(|_| *turn.borrow_and_update()) {
                match self.settle(&current).await {
                    Ok(()) => self.failures.clear(),
                    Err(error) => {
                        self.failures.report(format!("load balancer: {error}"));
                        pause = RETRY_PAUSE;
                    }
                }
            }
            tokio::select! {
                _ = services.changed() => {}
                _ = turn.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }

    async fn settle(&mut self, services: &Services) -> Result<(), String> {
        let changes = plan(services, self.subnets);
        let refused = |name: &NamespacedName| {
            changes.iter().any(|change| matches!(change, Change::Refuse(other, _) if other == name))
        };
        self.told.retain(|name, _| refused(name));
        let mut result = Ok(());
        for change in &changes {
            let (Change::Assign(name, _) | Change::Refuse(name, _)) = change;
            let Some(service) = services.get(name) else { continue };
            let written = match change {
                Change::Assign(_, addresses) => self.assign(name, service, addresses).await,
                Change::Refuse(_, cause) => self.refuse(name, service, cause).await,
            };
            result = result.and(written);
        }
        result
    }

    async fn assign(&self, name: &NamespacedName, service: &Service, addresses: &[IpAddr]) -> Result<(), String> {
        let path = format!("/api/v1/namespaces/{}/services/{}/status", name.namespace, name.name);
        // With the version, the API rejects a decision from an old state; the watch brings the new state.
        if self.api.write(Method::PATCH, &path, &status(&service.version, addresses)).await? != 200 {
            return Ok(());
        }
        let text: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let text = text.join(", ");
        log::line(format_args!("load balancer: {name} has {}", if text.is_empty() { "no address" } else { &text }));
        if addresses.is_empty() {
            return Ok(());
        }
        self.event(name, service, ("Normal", "AddressAssigned"), &format!("reachable at {text}")).await
    }

    async fn refuse(&mut self, name: &NamespacedName, service: &Service, cause: &str) -> Result<(), String> {
        let is_told = |(told, at): &(String, Instant)| told == cause && at.elapsed() < REMINDER_INTERVAL;
        if self.told.get(name).is_some_and(is_told) {
            return Ok(());
        }
        self.event(name, service, ("Warning", "NoAddress"), cause).await?;
        log::line(format_args!("load balancer: {name}: {cause}"));
        self.told.insert(name.clone(), (cause.to_owned(), Instant::now()));
        Ok(())
    }

    async fn event(
        &self,
        name: &NamespacedName,
        service: &Service,
        (kind, reason): (&str, &str),
        message: &str,
    ) -> Result<(), String> {
        let now = moment::written(SystemTime::now());
        let event = event(name, service, self.node, (kind, reason), message, &now);
        let path = format!("/api/v1/namespaces/{}/events", name.namespace);
        self.api.write(Method::POST, &path, &event).await.map(drop)
    }
}

/// The patch that sets the addresses of the status.
fn status(version: &str, addresses: &[IpAddr]) -> Value {
    let ingress: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address, "ipMode": "VIP" })).collect();
    json!({ "metadata": { "resourceVersion": version }, "status": { "loadBalancer": { "ingress": ingress } } })
}

/// The event of a service; an equal event at the same time has the same name, so that it exists only once.
fn event(
    name: &NamespacedName,
    service: &Service,
    node: &str,
    (kind, reason): (&str, &str),
    message: &str,
    now: &str,
) -> Value {
    let mut hasher = DefaultHasher::new();
    (&service.uid, reason, message, now).hash(&mut hasher);
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": format!("{}.{:016x}", name.name, hasher.finish()), "namespace": name.namespace },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Service", "namespace": name.namespace, "name": name.name, "uid": service.uid,
            "resourceVersion": service.version,
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": { "component": "coracle-agent", "host": node },
        "reportingComponent": "coracle-agent",
        "reportingInstance": node,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_has_the_addresses_and_the_version_that_they_were_chosen_for() {
        let patch = status("7", &["172.30.1.1".parse().unwrap()]);
        assert_eq!(
            patch.to_string(),
            r#"{"metadata":{"resourceVersion":"7"},"status":{"loadBalancer":{"ingress":[{"ip":"172.30.1.1","ipMode":"VIP"}]}}}"#
        );
        assert_eq!(status("7", &[])["status"]["loadBalancer"]["ingress"], json!([]));
    }

    #[test]
    fn an_event_names_the_service_and_its_cause() {
        let name = NamespacedName { namespace: "n".to_owned(), name: "s".to_owned() };
        let service = Service { uid: "u".to_owned(), ..Service::default() };
        let make = |message| event(&name, &service, "a", ("Warning", "NoAddress"), message, "2026-01-01T00:00:00Z");
        let event = make("full");
        assert_eq!((&event["involvedObject"]["uid"], &event["message"]), (&json!("u"), &json!("full")));
        assert_eq!(event, make("full"));
        assert_ne!(event["metadata"]["name"], make("other")["metadata"]["name"]);
    }
}
