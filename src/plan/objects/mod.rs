//! The objects that a new cluster gets through the API: those that kubeadm would create, and coracle's agent. Pure.

use serde_json::{Value, json};

use crate::config::KubeProxyMode;
use crate::engine::spec::Privilege;
use crate::error::Result;
use crate::plan::facts::{CRUN, Facts, Images};
use crate::plan::layout::Layout;

mod agent;
mod bootstrap;
mod coredns;
mod documents;
pub mod first_pods;
mod kube_proxy;
mod node;
mod own;
pub mod storage;

pub use agent::objects as agent;
pub use documents::documents;
pub use node::object as node;

/// Where the pods of kube-proxy have the endpoint that they began with.
const ENDPOINT_ANNOTATION: &str = "dev.coracle.endpoint";

/// What the node images have that the plan does not contain.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// The CNI plugin's manifest, a template with `{{ .PodSubnet }}`.
    pub cni: String,
    /// The storage provisioner's manifest.
    pub storage: String,
    /// Whether all node images have the container runtime crun.
    pub crun: bool,
}

/// The namespace of the control plane, where the pods of the nodes themselves run, whatever is enforced elsewhere.
pub fn system_namespace() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "kube-system", "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
    })
}

/// The class of pods that run with the second runtime of the node images.
fn crun_class() -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": CRUN}, "handler": CRUN})
}

/// The objects with the endpoint at which what runs on every node reaches the API; they are applied when it changes. The pods of
/// kube-proxy read it when they start. `cni` is the manifest of the network in the nodes.
pub fn ways(layout: &Layout, images: &Images, cni: &str, privilege: Privilege) -> Result<Vec<Value>> {
    let mut objects = agent::objects(layout, cni)?;
    objects.retain(|object| object["kind"] == "DaemonSet");
    if layout.cluster.networking.kube_proxy_mode != KubeProxyMode::None {
        for mut object in kube_proxy::objects(layout, images, privilege)? {
            if object["kind"] == "DaemonSet" {
                object["spec"]["template"]["metadata"]["annotations"][ENDPOINT_ANNOTATION] = json!(layout.endpoint());
            }
            objects.extend(["ConfigMap", "DaemonSet"].iter().any(|kind| object["kind"] == *kind).then_some(object));
        }
    }
    Ok(objects)
}

/// The objects of a new cluster.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// What the first pods need, and what they belong to. They are applied first: kubelets take a while to start these pods.
    pub of_first_pods: Vec<Value>,
    pub others: Vec<Value>,
}

/// The objects that `create` applies; `authority` is the cluster's CA as PEM.
pub fn objects(
    layout: &Layout,
    images: &Images,
    manifests: &Manifests,
    authority: &str,
    facts: &Facts,
) -> Result<Objects> {
    let mut of_first_pods = Vec::new();
    if layout.cluster.networking.kube_proxy_mode != KubeProxyMode::None {
        of_first_pods.extend(kube_proxy::objects(layout, images, facts.privilege)?);
    }
    of_first_pods.extend(coredns::objects(layout, images));
    of_first_pods.extend(first_pods::needed(layout, authority));
    of_first_pods.extend(agent::objects(layout, &manifests.cni)?);
    let mut others: Vec<Value> = own::objects(layout).into_iter().collect();
    others.extend(storage::objects(layout, &manifests.storage)?);
    others.extend(bootstrap::objects(layout, images, authority, facts.engine.cgroup)?);
    others.extend(manifests.crun.then(crun_class));
    Ok(Objects { of_first_pods, others })
}
