//! The local registry: its container, and the ConfigMap by which tools find it. Pure.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::config::LocalRegistry;
use crate::engine::spec::{ContainerSpec, Labels, Mount, PortBinding, Protocol};
use crate::error::Result;
use crate::plan::facts::{REGISTRY_PORT, Registry};
use crate::plan::files::{FileTree, NodePlan};
use crate::plan::labels;
use crate::yaml;

/// The default port on the host, the one in kind's guide. macOS uses 5000 itself.
pub const DEFAULT_PORT: u16 = 5001;
/// The ConfigMap by which tools find a cluster's registry (KEP-1755): its namespace and its name.
pub const HOSTING: (&str, &str) = ("kube-public", "local-registry-hosting");

const CONFIG: &str = "/etc/distribution/config.yml";
/// The command in its container that deletes everything without a tag.
pub const COLLECT: &[&str] = &["/registry", "garbage-collect", "--delete-untagged", CONFIG];
const DATA: &str = "/var/lib/registry";

/// The path of a blob in a registry's container.
pub fn blob(digest: &str) -> String {
    let (algorithm, hash) = digest.split_once(':').unwrap_or(("sha256", digest));
    format!("{DATA}/docker/registry/v2/blobs/{algorithm}/{}/{hash}/data", hash.get(..2).unwrap_or_default())
}

/// The name of the registry that a cluster uses; `None` if its configuration says that it uses none.
pub fn wanted(asked: Option<&LocalRegistry>) -> Option<&str> {
    match asked {
        None => Some(LocalRegistry::DEFAULT),
        Some(LocalRegistry::None) => None,
        Some(LocalRegistry::Named(name)) => Some(name),
    }
}

/// The container. It belongs to no run and no cluster, so that deleting one of these does not affect it.
pub fn plan(registry: &Registry, image: &str) -> Result<NodePlan> {
    let label = (labels::REGISTRY.to_owned(), registry.name.clone());
    let mut files = FileTree::default();
    files.text(CONFIG, configuration()?);
    let spec = ContainerSpec {
        command: Some(vec!["serve".to_owned(), CONFIG.to_owned()]),
        // Without this it would look for a collector of traces, and log that it found none.
        environment: vec!["OTEL_TRACES_EXPORTER=none".to_owned()],
        labels: Labels::from([label.clone(), (labels::PORT.to_owned(), registry.port.to_string())]),
        mounts: vec![Mount::Volume {
            name: registry.name.clone(),
            target: DATA.to_owned(),
            labels: Labels::from([label]),
        }],
        ports: vec![PortBinding {
            host_address: IpAddr::from([127, 0, 0, 1]),
            host_port: registry.port,
            container_port: REGISTRY_PORT,
            protocol: Protocol::Tcp,
        }],
        restart: true,
        ..ContainerSpec::new(&registry.name, image)
    };
    Ok(NodePlan { spec, files })
}

/// The program's configuration. It keeps no list of blobs in memory, which would be wrong after a garbage collection.
fn configuration() -> Result<String> {
    yaml::to_string(&json!({
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": true}},
        "storage": {"filesystem": {"rootdirectory": DATA}, "delete": {"enabled": true}},
        "http": {"addr": format!(":{REGISTRY_PORT}")},
    }))
}

/// The ConfigMap by which tools find the registry.
pub fn hosting(registry: &Registry) -> Result<Value> {
    let (namespace, name) = HOSTING;
    let text = yaml::to_string(&json!({
        "host": registry.host(),
        "hostFromClusterNetwork": registry.inside(),
        "hostFromContainerRuntime": registry.inside(),
    }))?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"localRegistryHosting.v1": text},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry { name: "coracle-registry".to_owned(), port: 5001 }
    }

    #[test]
    fn only_this_host_reaches_it() {
        let plan = plan(&registry(), "coracle/registry:v3.1.2").unwrap();
        assert_eq!(plan.spec.ports.len(), 1);
        assert!(plan.spec.ports[0].host_address.is_loopback());
        assert!(plan.spec.restart);
    }

    #[test]
    fn tools_find_it_from_the_host_and_from_nodes() {
        let object = hosting(&registry()).unwrap();
        let text = object["data"]["localRegistryHosting.v1"].as_str().unwrap();
        assert!(text.contains("host: localhost:5001\n"), "{text}");
        assert!(text.contains("hostFromContainerRuntime: coracle-registry.coracle.internal:5000\n"), "{text}");
    }

    #[test]
    fn the_shared_one_is_used_unless_the_configuration_says_otherwise() {
        assert_eq!(wanted(None), Some("coracle-registry"));
        assert_eq!(wanted(Some(&LocalRegistry::None)), None);
        assert_eq!(wanted(Some(&LocalRegistry::Named("mine".to_owned()))), Some("mine"));
    }
}
