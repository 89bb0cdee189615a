//! What kubeadm would have created through the API: Node objects, RBAC, the network, DNS and storage.

use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::cluster::lifecycle::first_pods;
use crate::cluster::run::Run;
use crate::engine::files::read_file;
use crate::engine::spec::EngineInfo;
use crate::error::Result;
use crate::kubernetes::{Client, apply, object};
use crate::plan::objects::{self, Manifests};
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
    try_join_all(nodes.iter().map(|node| apply::create_node(client, node, deadline))).await.map(drop)
}

/// Applies what kubeadm would have created, the agent and the storage class.
pub(super) async fn install(run: &Run, client: &Client, layout: &Layout, facts: &Facts, pki: &Pki) -> Result<()> {
    let first = layout.control_planes().next().map(|node| node.name.as_str()).unwrap_or_default();
    let text = async |path: &str| -> Result<String> {
        let bytes = read_file(&*run.engine, first, path).await?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
    };
    let cni = text(CNI_MANIFEST).await?;
    let storage = text("/kind/manifests/default-storage.yaml").await?;
    let manifests = Manifests { cni, storage, crun: facts.images.iter().all(|image| image.crun) };
    let Some(image) = facts.images.first() else { return Ok(()) };
    let authority = &pki.kubernetes.pair.certificate;
    let mut objects = objects::objects(layout, &image.images, &manifests, authority, facts.engine.cgroup)?;
    if let Some(node) = layout.control_planes().next() {
        let dns = objects.iter_mut().find(|object| object["kind"] == "Deployment" && object::name(object) == "coredns");
        dns.map_or(Ok(()), |dns| patches::apply(facts.patches_of(&node.config), patches::COREDNS, dns))?;
    }
    let workloads = apply::apply_all(client, &objects, run.deadline).await?;
    first_pods::start(client, layout, &workloads, run.deadline).await;
    Ok(())
}
