//! What kubeadm would have created through the API: Node objects, RBAC, the network, DNS and storage.

use futures_util::future::{try_join, try_join_all};
use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::lifecycle::first_pods;
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::engine::spec::EngineInfo;
use crate::error::Result;
use crate::kubernetes::{Client, apply, object};
use crate::plan::objects::{self, Manifests, Objects};
use crate::plan::pki::Pki;
use crate::plan::{Facts, Layout, patches};
use crate::ui::Step;

/// The network's manifest in a control plane.
pub(super) const CNI_MANIFEST: &str = "/kind/manifests/default-cni.yaml";

/// Waits until the API answers, and creates the Node objects before the kubelets register.
pub(super) async fn register(
    client: &Client,
    layout: &Layout,
    machine: &EngineInfo,
    deadline: Instant,
    step: &Step,
) -> Result<()> {
    for plane in layout.control_planes() {
        step.detail(&plane.name, "waiting for its API server");
    }
    let nodes: Vec<_> = layout.nodes.iter().map(|node| objects::node(layout, node, machine)).collect();
    let namespace = [objects::system_namespace()];
    let nodes = try_join_all(nodes.iter().map(|node| apply::create_node(client, node, deadline)));
    try_join(nodes, apply::create_all(client, &namespace, deadline)).await.map(drop)
}

/// What kubeadm would have created, the agent and the storage class. The nodes have some of it.
pub(super) async fn objects(engine: &dyn Engine, layout: &Layout, facts: &Facts, pki: &Pki) -> Result<Objects> {
    let first = layout.control_planes().next();
    let text = async |path: &str| -> Result<String> {
        let node = first.map(|node| node.name.as_str()).unwrap_or_default();
        let bytes = read_file(engine, node, path).await?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
    };
    let cni = text(CNI_MANIFEST).await?;
    let storage = text("/kind/manifests/default-storage.yaml").await?;
    let manifests = Manifests { cni, storage, crun: facts.images.iter().all(|image| image.crun) };
    let Some(image) = facts.images.first() else { return Ok(Objects::default()) };
    let authority = &pki.kubernetes.pair.certificate;
    let mut objects = objects::objects(layout, &image.images, &manifests, authority, facts)?;
    if let Some(node) = first {
        let is_dns = |object: &&mut Value| object["kind"] == "Deployment" && object::name(object) == "coredns";
        let dns = objects.of_first_pods.iter_mut().find(is_dns);
        dns.map_or(Ok(()), |dns| patches::apply(facts.patches_of(&node.config), patches::COREDNS, dns))?;
    }
    Ok(objects)
}

/// Creates them. Whatever makes the first pods start earlier comes first.
pub(super) async fn install(client: &Client, layout: &Layout, objects: &Objects, deadline: Instant) -> Result<()> {
    let created = apply::create_all(client, &objects.of_first_pods, deadline).await?;
    first_pods::start(client, layout, &created, deadline).await;
    apply::create_all(client, &objects.others, deadline).await.map(drop)
}
