//! The local registry: its container, and how nodes and their users find it. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::LocalRegistry;
use crate::engine::spec::{ContainerSpec, Labels, Mount, PortBinding, Protocol};
use crate::error::Result;
use crate::plan::files::FileTree;
use crate::plan::node::containerd::CERTS;
use crate::plan::subnet::Division;
use crate::plan::{NodePlan, labels};
use crate::yaml;

/// The port on the host, unless another one is wanted: the one in kind's guide. macOS itself has 5000.
pub const DEFAULT_PORT: u16 = 5001;
/// The ConfigMap by which tools find a cluster's registry (KEP-1755), and its name space.
pub const HOSTING: (&str, &str) = ("kube-public", "local-registry-hosting");

/// The registry's port in its container.
const PORT: u16 = 5000;
const CONFIG: &str = "/etc/distribution/config.yml";
/// The command in its container that removes what no tag leads to.
pub const COLLECT: &[&str] = &["/registry", "garbage-collect", "--delete-untagged", CONFIG];
const DATA: &str = "/var/lib/registry";
/// What names in nodes' networks end with; no proxy is asked for them.
pub const DOMAIN: &str = ".coracle.internal";

/// Where a registry's container has a blob.
pub fn blob(digest: &str) -> String {
    let (algorithm, hash) = digest.split_once(':').unwrap_or(("sha256", digest));
    format!("{DATA}/docker/registry/v2/blobs/{algorithm}/{}/{hash}/data", hash.get(..2).unwrap_or_default())
}

/// A local registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registry {
    /// Name of its container and volume.
    pub name: String,
    /// Its port on the host.
    pub port: u16,
}

impl Registry {
    /// What names of images begin with, on the host and in the cluster.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Its name in the networks of clusters.
    pub fn alias(&self) -> String {
        format!("{}{DOMAIN}", self.name)
    }

    /// Its fixed address in a network with IPv6: Docker 20.10 cannot choose one in the half of a /64 that is left to it.
    ///
    /// It is of the nodes' part, which the engine leaves alone, and far behind the most nodes that a cluster can have.
    pub fn address(&self, subnets: &[IpNet]) -> Option<IpAddr> {
        let subnet = subnets.iter().find(|subnet| subnet.addr().is_ipv6())?;
        let of_name = self.name.bytes().fold(0_usize, |sum, byte| (sum * 31 + usize::from(byte)) % 0x2000);
        Division::new(*subnet)?.address(0x1000 + of_name)
    }

    /// Where nodes and pods reach it.
    fn inside(&self) -> String {
        format!("{}:{PORT}", self.alias())
    }
}

/// The registry that a cluster uses when its configuration does not name one.
pub fn wanted(asked: Option<&LocalRegistry>) -> Option<&str> {
    match asked {
        None => Some(LocalRegistry::DEFAULT),
        Some(LocalRegistry::None) => None,
        Some(LocalRegistry::Named(name)) => Some(name),
    }
}

/// The container. It belongs to no run and no cluster, so that removing one leaves it alone.
pub fn plan(registry: &Registry, image: &str) -> Result<NodePlan> {
    let label = (labels::REGISTRY.to_owned(), registry.name.clone());
    let mut files = FileTree::default();
    files.text(CONFIG, configuration()?);
    let spec = ContainerSpec {
        command: Some(vec!["serve".to_owned(), CONFIG.to_owned()]),
        // It would look for a collector of traces and complain that there is none.
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
            container_port: PORT,
            protocol: Protocol::Tcp,
        }],
        restart: true,
        ..ContainerSpec::new(&registry.name, image)
    };
    Ok(NodePlan { spec, files })
}

/// The program's configuration. It keeps no list of blobs in memory, which would go wrong when garbage is collected.
fn configuration() -> Result<String> {
    yaml::to_string(&json!({
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": true}},
        "storage": {"filesystem": {"rootdirectory": DATA}, "delete": {"enabled": true}},
        "http": {"addr": format!(":{PORT}")},
    }))
}

/// The directory of a node in which containerd finds where the registry is.
pub fn directory(registry: &Registry) -> String {
    format!("{CERTS}/{}", registry.host())
}

/// What a node needs to find the registry; containerd reads it with every pull.
pub fn node_files(files: &mut FileTree, registry: &Registry) {
    files.text(
        format!("{}/hosts.toml", directory(registry)),
        format!(
            "# {} is this container, also in a node.\nserver = \"http://{}\"\n",
            registry.host(),
            registry.inside()
        ),
    );
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
    fn an_image_has_one_name_on_the_host_and_in_a_node() {
        let mut files = FileTree::default();
        node_files(&mut files, &registry());
        let (path, _) = files.iter().next().unwrap();
        assert_eq!(path, "/etc/containerd/certs.d/localhost:5001/hosts.toml");
        let object = hosting(&registry()).unwrap();
        let text = object["data"]["localRegistryHosting.v1"].as_str().unwrap();
        assert!(text.contains("host: localhost:5001\n"), "{text}");
        assert!(text.contains("hostFromContainerRuntime: coracle-registry.coracle.internal:5000\n"), "{text}");
    }

    #[test]
    fn an_address_of_ipv6_is_fixed_and_no_nodes() {
        let subnets: Vec<IpNet> = ["172.18.0.0/22", "fdc0:ac1e::/64"].map(|text| text.parse().unwrap()).to_vec();
        let address = registry().address(&subnets).unwrap();
        let division = Division::new(subnets[1]).unwrap();
        assert!(division.nodes.contains(&address) && !division.dynamic.contains(&address), "{address}");
        assert!(address > division.address(200).unwrap(), "{address}");
        assert_ne!(Registry { name: "other".to_owned(), port: 5002 }.address(&subnets), Some(address));
        let smallest = ["fdc0:ac1e::/112".parse().unwrap()];
        assert!(registry().address(&smallest).is_some());
        assert_eq!(registry().address(&subnets[..1]), None);
    }

    #[test]
    fn the_shared_one_is_used_unless_the_file_says_otherwise() {
        assert_eq!(wanted(None), Some("coracle-registry"));
        assert_eq!(wanted(Some(&LocalRegistry::None)), None);
        assert_eq!(wanted(Some(&LocalRegistry::Named("mine".to_owned()))), Some("mine"));
    }
}
