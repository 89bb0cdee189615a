//! What must be known before nodes are added: what exists, the image, and what the host can give.

use std::net::IpAddr;

use futures_util::future::try_join_all;
use serde_json::Value;

use crate::cluster::astray;
use crate::cluster::found::{Cluster, Node};
use crate::cluster::lifecycle::facts;
use crate::cluster::lifecycle::node::members::{self, Members};
use crate::cluster::run::Run;
use crate::config::{self, ClusterConfig, Role};
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::engine::spec::Network;
use crate::error::{Code, Error, Result};
use crate::host::credentials;
use crate::kubernetes::{Client, object};
use crate::node_image::choose;
use crate::plan::layout::{Existing, ExistingNode};
use crate::plan::lifetime::EXPIRES;
use crate::plan::node::container::network_name;
use crate::plan::pki::Pki;
use crate::plan::subnet::NodeSubnets;
use crate::plan::{Layout, NodeImage, ProxySettings, labels};
use crate::ui::Step;

use coracle_shared::paths::NODE_REGISTRATION;

/// How many minor versions a kubelet may be older than the API server.
const MAX_SKEW: u32 = 3;

/// A cluster as it is before nodes are added.
pub(super) struct Before {
    pub(super) cluster: Cluster,
    pub(super) client: Client,
    pub(super) members: Members,
    pub(super) existing: Existing,
    pub(super) network: Network,
    /// The Node objects.
    pub(super) objects: Value,
    pub(super) pki: Pki,
    pub(super) proxy: ProxySettings,
    /// What the other nodes have about the end of the cluster; it may have got more time since it was created.
    pub(super) end: Option<String>,
}

/// Reads what the nodes of a cluster have.
pub(super) async fn read(engine: &dyn Engine, cluster: Cluster, client: Client) -> Result<Before> {
    astray::require_names(&cluster)?;
    let plane = cluster.control_plane().ok_or_else(|| not_complete(&cluster, "it has no control plane"))?;
    let (members, pki, proxy, end, networks, objects) = tokio::try_join!(
        members::read(engine, &cluster),
        pki(engine, plane),
        proxy(engine, plane),
        read_file(engine, &plane.name, EXPIRES),
        engine.networks(),
        async { client.get("/api/v1/nodes").await.map_err(Error::from) },
    )?;
    let name = network_name(cluster.name.as_str());
    let is_own = |network: &Network| network.labels.get(labels::CLUSTER).is_some_and(|of| of == cluster.name.as_str());
    let network = networks.into_iter().find(|network| network.name == name && is_own(network));
    let network = network.ok_or_else(|| not_complete(&cluster, "its network is gone"))?;
    let nodes = cluster.nodes.iter().zip(&members.config.nodes);
    let nodes = try_join_all(nodes.map(|(node, config)| existing(engine, node, config, &objects))).await?;
    let balancer = cluster.balancer.as_ref().and_then(|balancer| balancer.labels.get(labels::ADDRESS));
    let balancer = balancer.map(|text| text.split(',').filter_map(|address| address.parse().ok()).collect());
    let (end, existing) = (end.and_then(|text| String::from_utf8(text).ok()), Existing { nodes, balancer });
    Ok(Before { cluster, client, members, existing, network, objects, pki, proxy, end })
}

fn not_complete(cluster: &Cluster, cause: &str) -> Error {
    Error::new(Code::NotFound, format!("cluster `{}` is not complete", cluster.name))
        .because(cause)
        .hint(format!("delete it: `coracle delete cluster --name {}`", cluster.name))
}

/// The authorities of a cluster, from a control plane.
async fn pki(engine: &dyn Engine, plane: &Node) -> Result<Pki> {
    let paths = Pki::paths();
    let texts = try_join_all(paths.iter().map(|path| read_file(engine, &plane.name, path))).await?;
    let read = |path: &str| {
        let index = paths.iter().position(|known| known == path)?;
        String::from_utf8(texts[index].clone()?).ok()
    };
    Pki::from_files(&read, time::OffsetDateTime::now_utc()).map_err(|error| error.on_node(&plane.name))
}

/// The proxy of a cluster's nodes, so that new ones have the same one, whatever this shell has.
async fn proxy(engine: &dyn Engine, plane: &Node) -> Result<ProxySettings> {
    let output = engine.exec(&plane.name, &["cat", "/proc/1/environ"], None).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = |name: &str| {
        let entry = text.split('\0').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
        entry.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    Ok(ProxySettings { http: value("HTTP_PROXY"), https: value("HTTPS_PROXY"), none: value("NO_PROXY") })
}

/// A node that exists. Its pod subnets stand in the node, or else in its Node object.
async fn existing(engine: &dyn Engine, node: &Node, config: &config::Node, objects: &Value) -> Result<ExistingNode> {
    let text = read_file(engine, &node.name, NODE_REGISTRATION).await?.unwrap_or_default();
    let registration: Value = serde_json::from_slice(&text).unwrap_or_default();
    let cidrs = |value: &Value| {
        let texts = value["podCIDRs"].as_array().map(Vec::as_slice).unwrap_or_default();
        texts.iter().filter_map(|text| text.as_str()?.parse().ok()).collect::<Vec<_>>()
    };
    let mut pod_cidrs = cidrs(&registration);
    if let Some(object) = object::items(objects).iter().find(|object| object::name(object) == node.name)
        && pod_cidrs.is_empty()
    {
        pod_cidrs = cidrs(&object["spec"]);
    }
    let addresses = node.addresses.clone();
    Ok(ExistingNode { name: node.name.clone(), addresses, pod_cidrs, config: config.clone() })
}

impl Before {
    /// The layout with `new` nodes, which are those behind the existing ones.
    pub(super) fn layout(&self, new: &[config::Node], engine_host: Option<String>) -> Result<Layout> {
        let cluster = self.checked(new)?;
        let version = self.cluster.version.clone().unwrap_or_default();
        let port = self.cluster.endpoint.as_deref().and_then(|url| url.rsplit_once(':')?.1.parse().ok());
        let mut existing = self.existing.clone();
        for (node, config) in existing.nodes.iter_mut().zip(&cluster.nodes) {
            node.config = config.clone();
        }
        let layout = Layout::with_existing(
            cluster,
            existing,
            new.to_vec(),
            self.subnets()?,
            port.unwrap_or_default(),
            &version,
        )?;
        Ok(layout.on(engine_host))
    }

    /// The host of the engine, if it is elsewhere; as the cluster knows it where this command runs beside the engine.
    pub(super) fn engine_host(&self, engine: &dyn Engine) -> Option<String> {
        facts::engine_host(engine).or_else(|| self.cluster.endpoint.as_deref().and_then(host_elsewhere))
    }

    /// Fails if a control plane of this image would not have the version of the cluster: it would change what the others run.
    pub(super) fn require_version(&self, image: &NodeImage) -> Result<()> {
        let own = &image.images.kubernetes;
        match self.cluster.version.as_ref().filter(|version| *version != own) {
            None => Ok(()),
            Some(version) => Err(Error::new(
                Code::ConfigInvalid,
                format!("a control plane with Kubernetes {own} does not fit into this cluster"),
            )
            .because(format!("all control planes have the version of the cluster, which is {version}"))
            .hint(format!("choose an image with Kubernetes {version}, or omit `--image`"))),
        }
    }

    /// The configuration with `new` nodes, checked as a whole.
    fn checked(&self, new: &[config::Node]) -> Result<ClusterConfig> {
        let text = self.members.with(new).to_text()?;
        config::load(&text, "the cluster with its new nodes", &config::Overrides::default())
    }

    fn subnets(&self) -> Result<NodeSubnets> {
        let none = || not_complete(&self.cluster, "its network has no IPv4 subnet");
        let v4 = self.network.subnets.iter().find_map(|subnet| match subnet {
            ipnet::IpNet::V4(subnet) => Some(*subnet),
            ipnet::IpNet::V6(_) => None,
        });
        let v6 = self.network.subnets.iter().find_map(|subnet| match subnet {
            ipnet::IpNet::V6(subnet) => Some(*subnet),
            ipnet::IpNet::V4(_) => None,
        });
        Ok(NodeSubnets { v4: v4.ok_or_else(none)?, v6 })
    }

    /// The image for new nodes: the named one, else the very image of a node that has the cluster's.
    pub(super) async fn image(
        &self,
        run: &Run,
        named: Option<&str>,
        login: Login<'_>,
        step: &Step,
    ) -> Result<NodeImage> {
        let pulling = |reference: &str, done: u64, total: u64| {
            if (done, total) == (0, 0) {
                step.detail("image", &format!("pulling {reference}"));
            } else {
                step.bytes(done, total);
            }
        };
        let Some(reference) = named else {
            let nodes = self.cluster.nodes.iter().zip(&self.members.config.nodes);
            let usual = nodes.clone().find(|(_, config)| config.image.is_none()).or(nodes.clone().next());
            let node = usual.map(|(node, _)| node).ok_or_else(|| not_complete(&self.cluster, "it has no node"))?;
            // By ID: the name may mean another image by now.
            let inspected = run.engine.inspect(&node.container.id).await?;
            let id = inspected.map_or_else(|| node.container.image.clone(), |inspected| inspected.image);
            let found = choose::node_image(&run.engine, Some(&id), None, &run.id, &pulling).await?;
            return Ok(NodeImage { reference: node.image.clone(), ..found });
        };
        let is_here = run.engine.image(reference).await?.is_some();
        let login = credentials::of_image(login.filter(|_| !is_here), reference).await;
        let image = choose::node_image(&run.engine, Some(reference), login.as_ref(), &run.id, &pulling).await?;
        let planes = self.cluster.nodes.iter().filter(|node| node.role == Role::ControlPlane);
        let versions: Vec<&str> = planes.filter_map(|node| node.version.as_deref()).collect();
        skew(&image.images.kubernetes, &versions)?;
        Ok(image)
    }
}

/// The host in the URL of an API, unless it is this one.
fn host_elsewhere(url: &str) -> Option<String> {
    let host = url.strip_prefix("https://")?.rsplit_once(':')?.0.trim_matches(['[', ']']);
    let is_here = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address.is_unspecified());
    (!is_here).then(|| host.to_owned())
}

/// The directory of the Docker client's configuration.
type Login<'a> = Option<&'a std::path::Path>;

/// Kubernetes' rule: a kubelet is never newer than an API server, and at most three minor versions older.
fn skew(kubelet: &str, api_servers: &[&str]) -> Result<()> {
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let Some(own) = minor(kubelet) else { return Ok(()) };
    let refused = |cause: String| {
        let fits = api_servers.first().copied().unwrap_or_default();
        Error::new(Code::ConfigInvalid, format!("a node with Kubernetes {kubelet} does not fit into this cluster"))
            .because(cause)
            .hint(format!("choose an image with Kubernetes {fits}, or omit `--image`"))
    };
    for api_server in api_servers {
        let Some(other) = minor(api_server) else { continue };
        if own > other {
            return Err(refused(format!("a kubelet may not be newer than an API server, and one has {api_server}")));
        }
        if other - own > MAX_SKEW {
            return Err(refused(format!(
                "a kubelet may be {MAX_SKEW} minor versions older than an API server at most, and one has {api_server}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_is_reached_by_the_name_of_its_host_stays_so() {
        assert_eq!(host_elsewhere("https://box:6443").as_deref(), Some("box"));
        assert_eq!(host_elsewhere("https://[fd00::1]:6443").as_deref(), Some("fd00::1"));
        assert_eq!(host_elsewhere("https://127.0.0.1:6443"), None);
        assert_eq!(host_elsewhere("https://[::1]:6443"), None);
    }

    #[test]
    fn a_kubelet_is_never_newer_and_at_most_three_versions_older() {
        assert!(skew("v1.36.3", &["v1.36.1"]).is_ok());
        assert!(skew("v1.33.0", &["v1.36.3"]).is_ok());
        assert!(skew("odd", &["v1.36.3"]).is_ok());
        let newer = skew("v1.37.0", &["v1.37.0", "v1.36.3"]).unwrap_err();
        assert_eq!(newer.code(), Code::ConfigInvalid);
        assert!(newer.cause().unwrap().contains("newer than an API server, and one has v1.36.3"), "{newer}");
        assert!(skew("v1.32.9", &["v1.36.3"]).unwrap_err().cause().unwrap().contains("3 minor versions older"));
    }
}
