//! containerd's and the CNI plugins' configuration in a node. Pure.

use coracle_shared::cni::PodNetwork;

use crate::engine::spec::CgroupVersion;
use crate::plan::NodeImage;
use crate::plan::facts::{CRUN, USUAL_MTU};
use crate::plan::layout::NodeLayout;

/// containerd's configuration file.
pub const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
/// Where containerd finds how to reach each registry; it looks there with every pull.
pub const CERTS: &str = "/etc/containerd/certs.d";
/// The CNI configuration that coracle writes; the agent knows it by its name.
pub const CNI_CONFIG: &str = "/etc/cni/net.d/10-coracle.conflist";

/// containerd's configuration: only what differs from its defaults.
pub fn containerd(cgroup: CgroupVersion, image: &NodeImage) -> String {
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
