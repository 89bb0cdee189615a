//! What is checked in flags of etcd.

use std::net::IpAddr;

use serde::Serialize;

use super::reader::{Field, Reader};
use super::syntax;
use super::value::{Value, quoted};

/// What etcd promises about what it has acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It is on the disk.
    #[default]
    Safe,
    /// It is with the kernel, which may lose it when the power fails.
    Ephemeral,
}

impl Durability {
    /// The words for it in configuration files and on the command line.
    pub const WORDS: &[(&str, Self)] = &[("safe", Self::Safe), ("ephemeral", Self::Ephemeral)];

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn is_safe(&self) -> bool {
        *self == Self::Safe
    }
}

impl Reader<'_> {
    /// Checks `listen-metrics-urls`: etcd ends when it cannot listen at one of them.
    pub(super) fn metrics_urls(&mut self, field: &Field<'_>) {
        let Value::Map(entries) = &field.node.value else { return };
        for entry in entries.iter().filter(|entry| entry.key == "listen-metrics-urls") {
            let nodes = match &entry.node.value {
                Value::List(items) => items.iter().collect(),
                _ => vec![&entry.node],
            };
            for node in nodes {
                let Value::Text(urls, _) = &node.value else { continue };
                if let Some(message) = urls.split(',').find_map(|url| metrics_url(url).err()) {
                    self.problem(node.mark, message);
                }
            }
        }
    }
}

/// The port at which the kubelet's probes ask etcd.
pub const PROBED_PORT: u16 = 2381;

/// Whether etcd listens at 127.0.0.1 and the probes' port if this is one of its `listen-metrics-urls`.
pub fn is_probed(url: &str) -> bool {
    let host = url.strip_prefix("http://").and_then(|rest| rest.trim_end_matches('/').rsplit_once(':'));
    host.is_some_and(|(host, port)| {
        port.parse() == Ok(PROBED_PORT) && has_loopback(host.trim_start_matches('[').trim_end_matches(']'))
    })
}

/// Whether what listens at this address listens at 127.0.0.1.
fn has_loopback(address: &str) -> bool {
    let covers = |ip: IpAddr| ip.is_unspecified() || ip.to_canonical() == IpAddr::from([127, 0, 0, 1]);
    address == "localhost" || address.parse().is_ok_and(covers)
}

fn metrics_url(url: &str) -> Result<(), String> {
    let wrong = || format!("{} is not a URL such as `http://0.0.0.0:2381`, at which etcd can listen", quoted(url));
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or_else(wrong)?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(wrong)?;
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_host = host == "localhost" || syntax::address(address).is_ok();
    match port.parse::<u16>() {
        Ok(2379 | 2380) => Err(format!("{} is a port that etcd already uses; choose another one", quoted(url))),
        Ok(PROBED_PORT) if url.starts_with("https:") && has_loopback(address) => Err(format!(
            "{}: the kubelet's probes ask at port {PROBED_PORT} without TLS; choose another port",
            quoted(url)
        )),
        Ok(1..) if is_host => Ok(()),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_probed;
    use crate::config::{Overrides, load};

    #[test]
    fn metrics_are_offered_at_urls_only() {
        let problems = |urls: &str| {
            let text =
                format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\netcd: {{listen-metrics-urls: {urls}}}\n");
            let found = load(&text, "c.yaml", &Overrides::default());
            found.err().map(|error| error.problems().iter().map(|problem| problem.message.clone()).collect::<Vec<_>>())
        };
        for good in [
            "http://0.0.0.0:2381",
            "['http://127.0.0.1:2381', 'http://[::]:2382/']",
            "'http://localhost:9,https://10.0.0.1:8'",
            "https://10.0.0.1:2381",
        ] {
            assert_eq!(problems(good), None, "{good}");
        }
        for (bad, part) in [
            ("0.0.0.0:2381", "`0.0.0.0:2381` is not a URL"),
            ("http://0.0.0.0", "is not a URL"),
            ("['http://name:1']", "is not a URL"),
            ("http://0.0.0.0:2379", "already uses"),
            ("https://0.0.0.0:2381", "without TLS"),
        ] {
            assert!(problems(bad).unwrap()[0].contains(part), "{bad}");
        }
    }

    #[test]
    fn an_address_that_includes_the_loopback_is_probed() {
        for probed in
            ["http://127.0.0.1:2381", "http://[0:0:0:0:0:0:0:0]:2381/", "http://0.0.0.0:2381", "http://localhost:2381"]
        {
            assert!(is_probed(probed), "{probed}");
        }
        for other in ["http://10.0.0.1:2381", "http://0.0.0.0:2382", "https://0.0.0.0:2381", "http://[::1]:2381"] {
            assert!(!is_probed(other), "{other}");
        }
    }
}
