//! What this machine allows: kernel settings and disk space.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use rustix::process::Resource;

use crate::config::{ClusterConfig, IpFamily, KubeProxyMode};
use crate::engine::spec::{Container, EngineInfo, Privilege};
use crate::error::{Code, Error, FREE_DISK, Result, counted};
use crate::host::check::{self, Check};
use crate::host::checks::Id;
use crate::plan::labels;

/// inotify instances without which a node does not work: those of systemd, containerd and the kubelet.
const INOTIFY_PER_NODE: usize = 8;
/// inotify instances that a worker uses: systemd 3, containerd 2, the kubelet 7, kube-proxy 1.
const INOTIFY_OF_WORKER: usize = 13;
/// And those of a control plane: kube-apiserver has 6 more, and kube-controller-manager 7.
const INOTIFY_OF_CONTROL_PLANE: usize = 26;
/// Free bytes on the engine's disk below which a cluster cannot start.
const MIN_DISK: u64 = 512 * 1024 * 1024;
/// Open files that a process in a node may have: the largest number that every kernel allows.
const MAX_FILES: i64 = 1_048_576;
/// The bit of `CAP_SYS_RESOURCE` in a capability set.
const SYS_RESOURCE: u64 = 1 << 24;

/// The privilege that the engine can grant. If this process lacks a capability that `--privileged` needs, then most likely
/// the engine beside it lacks it too.
pub fn privilege(local: bool) -> Privilege {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let set = bounding.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    if local && set.is_some_and(|set| set & SYS_RESOURCE == 0) {
        Privilege::AllButSysResource
    } else {
        Privilege::Privileged
    }
}

/// Limits for the processes in nodes, so that the engine's defaults (`default-ulimits`) do not reach them: with 1,024 open
/// files the API server refuses the 1,025th connection.
///
/// An engine that cannot raise limits gives at most its own, and most likely this process has the same.
pub fn of_processes(privilege: Privilege) -> BTreeMap<String, i64> {
    let hard_limit =
        |resource| rustix::process::getrlimit(resource).maximum.and_then(|value| i64::try_from(value).ok());
    let (files, processes) = match privilege {
        Privilege::Privileged => (MAX_FILES, -1),
        _ => (
            hard_limit(Resource::Nofile).unwrap_or(MAX_FILES).min(MAX_FILES),
            hard_limit(Resource::Nproc).unwrap_or(-1),
        ),
    };
    BTreeMap::from([("nofile".to_owned(), files), ("nproc".to_owned(), processes)])
}

/// Checks whether this host, on which the engine runs, can run the cluster.
///
/// `containers` are all of the engine.
pub fn checks(info: &EngineInfo, cluster: &ClusterConfig, containers: &[Container]) -> Vec<Check> {
    vec![
        Check::new(Id::NoIpv6, ipv6(cluster, has_ipv6())),
        Check::new(Id::NoIpvs, ipvs(cluster, has_ipvs)),
        Check::new(Id::InotifyLimit, inotify(cluster.nodes.len(), containers)),
        Check::new(Id::DiskFull, disk(Path::new(&info.data_root))),
    ]
}

fn has_ipv6() -> bool {
    // If the kernel has IPv6, the loopback has an address; if not, the file does not exist.
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|text| !text.is_empty())
}

fn ipv6(cluster: &ClusterConfig, present: bool) -> Result<()> {
    let family = cluster.networking.ip_family;
    if family == IpFamily::Ipv4 || present {
        return Ok(());
    }
    Err(Error::new(Code::EngineUnsupported, "this host cannot run a cluster with IPv6")
        .because("IPv6 is disabled in its kernel")
        .hint("`sudo sysctl net.ipv6.conf.all.disable_ipv6=0`; or set `networking.ipFamily: ipv4`"))
}

/// Whether the kernel has IPVS, or a module that kube-proxy loads from there.
fn has_ipvs() -> bool {
    let modules = Path::new("/lib/modules").join(rustix::system::uname().release().to_string_lossy().as_ref());
    Path::new("/proc/net/ip_vs").exists() || has_module(&modules, "/ip_vs.ko")
}

fn has_module(modules: &Path, name: &str) -> bool {
    std::fs::read_to_string(modules.join("modules.dep")).is_ok_and(|list| list.contains(name))
}

/// The list of a kernel's modules is long, and read only for clusters that need it.
fn ipvs(cluster: &ClusterConfig, is_present: impl FnOnce() -> bool) -> Result<()> {
    if cluster.networking.kube_proxy_mode != KubeProxyMode::Ipvs || is_present() {
        return Ok(());
    }
    Err(Error::new(Code::EngineUnsupported, "this host cannot run a cluster with `kubeProxyMode: ipvs`")
        .because("its kernel has no module `ip_vs`")
        .hint("set `networking.kubeProxyMode: nftables`"))
}

fn inotify(nodes: usize, containers: &[Container]) -> Result<()> {
    inotify_limit().map_or(Ok(()), |limit| enough_inotify(nodes, &inotify_in_use(containers), limit))
}

/// Where the kernel has its limit of inotify instances for each user.
pub const INOTIFY: &str = "/proc/sys/fs/inotify/max_user_instances";

/// How many inotify instances the kernel allows each user.
fn inotify_limit() -> Option<usize> {
    std::fs::read_to_string(INOTIFY).ok()?.trim().parse().ok()
}

/// The limit with which these nodes have what they usually use.
pub fn wanted_inotify(cluster: &ClusterConfig, containers: &[Container]) -> usize {
    (inotify_in_use(containers).count + usual_of(cluster)).max(512).next_power_of_two()
}

/// The hint for too few inotify instances.
pub const MORE_INOTIFY: &str =
    "`sudo sysctl fs.inotify.max_user_instances=512` (in /etc/sysctl.d it survives a reboot)";

/// A sentence about the kernel's limit if there is no room for another node, and the engine runs on this host.
pub fn scarce_inotify(info: &EngineInfo, containers: &[Container]) -> Option<String> {
    let (limit, used) = (inotify_limit().filter(|_| is_here(info))?, inotify_in_use(containers));
    (used.count + INOTIFY_PER_NODE > limit).then(|| {
        format!("the kernel allows {limit} inotify instances per user, and {used} are in use, which may be the reason")
    })
}

/// Whether the engine has the same files as this process. Its socket can be here without it: in a container into which it is
/// mounted, or from a virtual machine.
pub fn is_here(info: &EngineInfo) -> bool {
    Path::new(&info.data_root).exists()
}

/// A warning if the new nodes would use the last instances: components then fall back to looking from time to time, and what
/// starts later may get none.
pub fn tight_inotify(cluster: &ClusterConfig, containers: &[Container]) -> Option<Error> {
    tight(usual_of(cluster), &inotify_in_use(containers), inotify_limit()?)
}

fn tight(usual: usize, used: &InUse, limit: usize) -> Option<Error> {
    (used.count + usual > limit).then(|| {
        let message = format!(
            "the kernel allows {limit} inotify instances per user, {used} are in use, and these nodes use {usual}: components \
             may notice changes late, and nodes that start later may fail"
        );
        check::odd(message, MORE_INOTIFY)
    })
}

/// How many instances the nodes of a cluster usually have.
fn usual_of(cluster: &ClusterConfig) -> usize {
    cluster.nodes.iter().map(|node| usual_inotify(node.role.as_str())).sum()
}

/// How many instances a container of this role usually has.
fn usual_inotify(role: &str) -> usize {
    match role {
        "control-plane" => INOTIFY_OF_CONTROL_PLANE,
        "worker" => INOTIFY_OF_WORKER,
        _ => 0,
    }
}

/// A number of inotify instances.
struct InUse {
    count: usize,
    /// Some could not be seen.
    estimated: bool,
}

impl std::fmt::Display for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.estimated { write!(f, "about {}", self.count) } else { write!(f, "{}", self.count) }
    }
}

/// Whether the limit allows this many more nodes.
fn enough_inotify(nodes: usize, used: &InUse, limit: usize) -> Result<()> {
    let needed = nodes * INOTIFY_PER_NODE;
    if used.count + needed <= limit {
        return Ok(());
    }
    let wanted = (used.count + needed).max(512).next_power_of_two();
    let estimated = if used.estimated { " (an estimate, since this user cannot see all of root's)" } else { "" };
    Err(Error::new(
        Code::InotifyLimit,
        format!("{} more would need about {needed} inotify instances", counted(nodes, "node")),
    )
    .because(format!("the kernel allows {limit} per user, and {used} are in use{estimated}"))
    .hint(format!("`sudo sysctl fs.inotify.max_user_instances={wanted}` (in /etc/sysctl.d it survives a reboot)")))
}

/// inotify instances of root's processes, to whom those in nodes belong too. Where this user cannot see them all, nodes count
/// as much as they usually have.
fn inotify_in_use(containers: &[Container]) -> InUse {
    use std::os::unix::fs::MetadataExt;
    let (mut seen, mut estimated) = (0, false);
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == 0)) {
        let files = std::fs::read_dir(process.path().join("fd"));
        estimated |= files.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        let links = files.into_iter().flatten().flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        seen += links.filter(|link| link.as_os_str() == "anon_inode:inotify").count();
    }
    InUse { count: if estimated { seen.max(of_nodes(containers)) } else { seen }, estimated }
}

/// What the nodes among these containers use.
fn of_nodes(containers: &[Container]) -> usize {
    let running = containers.iter().filter(|container| container.is_running());
    let roles = running.filter_map(|node| node.labels.get(labels::ROLE).or_else(|| node.labels.get(labels::KIND_ROLE)));
    roles.map(|role| usual_inotify(role)).sum()
}

fn disk(data_root: &Path) -> Result<()> {
    let Ok(stat) = rustix::fs::statvfs(data_root) else { return Ok(()) };
    enough_disk(data_root, stat.f_bavail * stat.f_frsize)
}

fn enough_disk(data_root: &Path, free: u64) -> Result<()> {
    if free >= MIN_DISK {
        return Ok(());
    }
    Err(Error::new(Code::DiskFull, format!("the engine's disk at {} is full", data_root.display()))
        .because(format!("{} MiB are free, and a cluster needs {} MiB", free >> 20, MIN_DISK >> 20))
        .hint(FREE_DISK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::spec::State;

    fn used(count: usize) -> InUse {
        InUse { count, estimated: false }
    }

    #[test]
    fn too_few_inotify_instances_are_reported_with_the_command_that_helps() {
        assert!(enough_inotify(3, &used(104), 128).is_ok());
        let error = enough_inotify(3, &used(105), 128).unwrap_err();
        assert_eq!(error.code(), Code::InotifyLimit);
        assert!(error.cause().unwrap().ends_with("allows 128 per user, and 105 are in use"));
        assert!(error.hints()[0].contains("sysctl fs.inotify.max_user_instances=512"));
        let many = enough_inotify(3, &used(510), 512).unwrap_err();
        assert!(many.hints()[0].contains("max_user_instances=1024"), "{many}");
    }

    #[test]
    fn a_cluster_with_ipv6_needs_a_kernel_with_it() {
        let mut cluster = ClusterConfig::new("t-limits".parse().unwrap());
        assert!(ipv6(&cluster, false).is_ok());
        cluster.networking.ip_family = IpFamily::Dual;
        assert!(ipv6(&cluster, true).is_ok());
        let check = Check::new(Id::NoIpv6, ipv6(&cluster, false));
        assert!(check.result.unwrap_err().hints()[0].contains("disable_ipv6=0"));
    }

    #[test]
    fn a_cluster_with_ipvs_needs_a_kernel_with_it() {
        let mut cluster = ClusterConfig::new("t-limits".parse().unwrap());
        assert!(ipvs(&cluster, || false).is_ok());
        cluster.networking.kube_proxy_mode = KubeProxyMode::Ipvs;
        assert!(ipvs(&cluster, || true).is_ok());
        let check = Check::new(Id::NoIpvs, ipvs(&cluster, || false));
        assert!(check.result.unwrap_err().hints()[0].contains("nftables"));
    }

    #[test]
    fn a_module_that_the_kernel_can_load_counts() {
        let modules = tempfile::tempdir().unwrap();
        let has = |list: &str| {
            std::fs::write(modules.path().join("modules.dep"), list).unwrap();
            has_module(modules.path(), "/ip_vs.ko")
        };
        assert!(!has_module(modules.path(), "/ip_vs.ko"));
        assert!(!has("kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz: kernel/net/netfilter/nf_nat.ko.xz\n"));
        assert!(has("kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/net/netfilter/nf_conntrack.ko.xz\n"));
    }

    #[test]
    fn nodes_that_work_but_take_the_last_instances_are_told() {
        assert!(tight(52, &used(76), 128).is_none());
        let warning = check::sentence(&tight(52, &used(77), 128).unwrap());
        assert!(
            warning.ends_with(MORE_INOTIFY) && warning.contains("77 are in use, and these nodes use 52"),
            "{warning}"
        );
    }

    #[test]
    fn nodes_that_run_are_counted_where_their_processes_cannot_be_seen() {
        let node = |label: &str, role: &str, state| Container {
            id: String::new(),
            name: String::new(),
            image: String::new(),
            state,
            labels: [(label.to_owned(), role.to_owned())].into(),
            addresses: Vec::new(),
            networks: Vec::new(),
            network_ids: Vec::new(),
            volumes: Vec::new(),
            ports: Vec::new(),
            created: 0,
        };
        let containers = [
            node(labels::ROLE, "control-plane", State::Running),
            node(labels::ROLE, "worker", State::Running),
            node(labels::ROLE, "worker", State::Exited),
            node(labels::ROLE, "tunnel", State::Running),
            node(labels::KIND_ROLE, "worker", State::Running),
        ];
        assert_eq!(of_nodes(&containers), 26 + 13 + 13);
    }

    #[test]
    fn an_estimate_is_told_as_one() {
        let error = enough_inotify(3, &InUse { count: 112, estimated: true }, 128).unwrap_err();
        assert!(error.cause().unwrap().contains("about 112 are in use (an estimate"), "{error}");
    }

    #[test]
    fn a_full_disk_is_reported_before_anything_is_made() {
        assert!(enough_disk(Path::new("/data"), MIN_DISK).is_ok());
        let error = enough_disk(Path::new("/data"), MIN_DISK - 1).unwrap_err();
        assert_eq!(error.code(), Code::DiskFull);
        assert!(error.message().contains("/data") && error.hints()[0].contains("docker system df"));
    }
}
