//! containerd's and the CNI plugins' configuration in a node. Pure.

use coracle_shared::cni::PodNetwork;
use serde_json::Value;

use crate::engine::spec::CgroupVersion;
use crate::error::{Code, Error, Result};
use crate::plan::NodeImage;
use crate::plan::facts::{CRUN, USUAL_MTU};
use crate::plan::layout::NodeLayout;
use crate::plan::node::kubelet;

/// containerd's configuration file.
pub const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
/// Where containerd finds how to reach each registry; it looks there with every pull.
pub const CERTS: &str = "/etc/containerd/certs.d";
/// The CNI configuration that coracle writes; the agent knows it by its name.
pub const CNI_CONFIG: &str = "/etc/cni/net.d/10-coracle.conflist";

/// containerd's configuration with the user's merge patch over it.
pub fn containerd(cgroup: CgroupVersion, image: &NodeImage, patch: &Value) -> Result<String> {
    let text = defaults(cgroup, image);
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(text);
    }
    let failed = |cause: &dyn std::fmt::Display| {
        Error::new(Code::ConfigInvalid, "containerd's configuration cannot be patched").because(cause.to_string())
    };
    let mut config: Value = toml::from_str(&text).map_err(|source| failed(&source))?;
    kubelet::merge(&mut config, patch);
    toml::to_string(&config).map_err(|source| failed(&source))
}

/// Only what differs from containerd's defaults.
fn defaults(cgroup: CgroupVersion, image: &NodeImage) -> String {
    // runc's systemd driver freezes cgroups around updates on v1, and a node killed at that moment can never be removed.
    let systemd = cgroup == CgroupVersion::V2;
    let pause = &image.pause;
    let crun = if image.crun { crun(systemd) } else { String::new() };
    format!(
        r#"version = 3

[plugins.'io.containerd.cri.v1.runtime']
  enable_selinux = false
  # Nothing may raise a limit in a node without CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  # By default, containerd wakes every container's shim each second; the kubelet asks every ten.
  stats_collect_period = "10s"
  tolerate_missing_hugetlb_controller = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = {systemd}
{crun}
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  discard_unpacked_layers = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "{CERTS}"
"#
    )
}

/// The second runtime, for pods of its `RuntimeClass`.
fn crun(systemd: bool) -> String {
    format!(
        r#"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{CRUN}]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{CRUN}.options]
  BinaryName = "/usr/local/lib/coracle/crun"
  SystemdCgroup = {systemd}
"#
    )
}

/// The node's CNI configuration, there before the kubelet starts so that the node is ready at once.
pub fn cni(node: &NodeLayout, image: &NodeImage, mtu: Option<u32>) -> String {
    let NodeImage { policy_plugin, ipv6_plugin, .. } = *image;
    let mtu = mtu.unwrap_or(USUAL_MTU);
    PodNetwork { subnets: &node.pod_cidrs, mtu, policy_plugin, ipv6_plugin }.render()
}
