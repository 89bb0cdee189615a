//! A forwarder: the container behind a port of the host that leads into a cluster, for as long as the cluster lives. Pure.

use std::net::{IpAddr, SocketAddr};

use coracle_shared::forward::{ForwardNode, ForwardService, Forwarding, PATH, PROGRAM, Transport};

use crate::engine::spec::{Container, ContainerSpec, Labels, PortBinding, Privilege, Protocol};
use crate::error::{Code, Error, Result};
use crate::plan::files::{FileTree, NodePlan};
use crate::plan::labels::{self, ContainerRole};
use crate::plan::node::container::network_name;

pub mod mapping;

/// A port of the host that is to be opened, with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Address and port on the host.
    pub host: SocketAddr,
    pub protocol: Protocol,
    /// The port of the nodes, or of the Service.
    pub port: u16,
    /// The Service that it leads to; the nodes' own port without one.
    pub service: Option<FoundService>,
}

/// A Service of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundService {
    pub namespace: String,
    pub name: String,
    /// Its addresses now.
    pub addresses: Vec<IpAddr>,
}

/// What the forwarders of a cluster have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// Name of the cluster.
    pub cluster: String,
    /// The image that they are made of: a node's.
    pub image: String,
    /// The run that makes them.
    pub run: String,
    pub nodes: Vec<ForwardNode>,
    /// The address of the cluster's DNS.
    pub dns: IpAddr,
}

impl Opening {
    /// What its label says.
    pub fn label(&self) -> String {
        match &self.service {
            Some(service) => service_label(&service.namespace, &service.name, self.port),
            None => self.port.to_string(),
        }
    }

    /// Name of the container: what is published at the usual address does not name it.
    pub fn name(&self, cluster: &str) -> String {
        let address = match self.host.ip() {
            address if address == IpAddr::from([127, 0, 0, 1]) => String::new(),
            // The engine's names have no colons.
            address => format!("{}-", address.to_string().replace(':', "_")),
        };
        format!("{cluster}-port-{address}{}-{}", self.host.port(), self.protocol)
    }

    /// The container.
    pub fn plan(&self, ground: &Ground) -> Result<NodePlan> {
        let cluster = &ground.cluster;
        let mut files = FileTree::default();
        files.text(PATH, text(&self.forwarding(ground))?);
        let spec = ContainerSpec {
            hostname: format!("port-{}", self.host.port()),
            entrypoint: Some(vec![PROGRAM.to_owned()]),
            command: Some(vec!["forward".to_owned()]),
            // The image's is systemd's.
            stop_signal: Some("SIGTERM"),
            labels: Labels::from([
                (labels::CLUSTER.to_owned(), cluster.clone()),
                (labels::ROLE.to_owned(), ContainerRole::Port.as_str().to_owned()),
                (labels::RUN.to_owned(), ground.run.clone()),
                (labels::TARGET.to_owned(), self.label()),
                (labels::PUBLISHED.to_owned(), format!("{}/{}", self.host, self.protocol)),
            ]),
            network: Some(network_name(cluster)),
            ports: vec![PortBinding {
                host_address: self.host.ip(),
                host_port: self.host.port(),
                container_port: self.host.port(),
                protocol: self.protocol,
            }],
            // Routes by way of nodes.
            privilege: Privilege::Network,
            restart: true,
            ..ContainerSpec::new(self.name(cluster), &ground.image)
        };
        Ok(NodePlan { spec, files })
    }

    /// What the forwarder is told.
    fn forwarding(&self, ground: &Ground) -> Forwarding {
        let service = self.service.as_ref().map(|service| ForwardService {
            name: format!("{}.{}.svc.cluster.local", service.name, service.namespace),
            dns: ground.dns,
            addresses: service.addresses.clone(),
        });
        Forwarding {
            protocol: if self.protocol == Protocol::Udp { Transport::Udp } else { Transport::Tcp },
            listen: self.host.port(),
            target: self.port,
            nodes: ground.nodes.clone(),
            service,
        }
    }
}

/// The file of a forwarder.
pub fn text(forwarding: &Forwarding) -> Result<String> {
    let text = serde_json::to_string_pretty(forwarding);
    text.map(|text| text + "\n").map_err(|source| Error::new(Code::StepFailed, "cannot write JSON").with_cause(&source))
}

/// Where a forwarder's port leads, as its label says.
pub fn target(forwarder: &Container) -> &str {
    forwarder.labels.get(labels::TARGET).map(String::as_str).unwrap_or_default()
}

/// The port of the host that a forwarder has, also when it does not run.
pub fn published(forwarder: &Container) -> Option<(SocketAddr, Protocol)> {
    let (host, protocol) = forwarder.labels.get(labels::PUBLISHED)?.split_once('/')?;
    Some((host.parse().ok()?, protocol.parse().ok()?))
}

/// The label of a port of a Service.
pub fn service_label(namespace: &str, name: &str, port: u16) -> String {
    format!("svc/{namespace}/{name}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ground() -> Ground {
        let node = ForwardNode { name: "dev-worker".to_owned(), addresses: vec![IpAddr::from([172, 18, 0, 4])] };
        Ground {
            cluster: "dev".to_owned(),
            image: "image".to_owned(),
            run: "run".to_owned(),
            nodes: vec![node],
            dns: IpAddr::from([10, 96, 0, 10]),
        }
    }

    fn opening(host: &str, service: Option<&str>) -> Opening {
        let service = service.map(|name| FoundService {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            addresses: vec![IpAddr::from([10, 96, 0, 7])],
        });
        Opening { host: host.parse().unwrap(), protocol: Protocol::Udp, port: 80, service }
    }

    #[test]
    fn a_forwarder_publishes_its_port_and_knows_where_it_leads() {
        let plan = opening("127.0.0.1:8080", Some("web")).plan(&ground()).unwrap();
        assert_eq!(plan.spec.name, "dev-port-8080-udp");
        assert_eq!(plan.spec.labels[labels::TARGET], "svc/shop/web:80");
        assert_eq!(plan.spec.labels[labels::PUBLISHED], "127.0.0.1:8080/udp");
        assert!(plan.spec.restart && plan.spec.ports[0].protocol == Protocol::Udp);
        let (_, file) = plan.files.iter().next().unwrap();
        let told: Forwarding = serde_json::from_str(file.content().unwrap()).unwrap();
        assert_eq!((told.listen, told.target, told.protocol), (8080, 80, Transport::Udp));
        assert_eq!(told.service.unwrap().name, "web.shop.svc.cluster.local");
        assert_eq!(opening("127.0.0.1:8080", None).label(), "80");
    }

    #[test]
    fn names_of_forwarders_are_names_that_the_engine_takes() {
        let name = |host: &str| opening(host, None).name("dev");
        assert_eq!(name("[::1]:8080"), "dev-port-__1-8080-udp");
        assert_eq!(name("0.0.0.0:8080"), "dev-port-0.0.0.0-8080-udp");
    }
}
