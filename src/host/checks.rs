//! Every check there is, in the order in which `doctor` tells of them. It is one list for both: `create` refuses or warns by it
//! before it makes anything, `doctor` looks at all of it, and docs/reference/doctor.md shows it.

/// How bad it is that a check has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// What cannot work.
    Error,
    /// What may cause trouble.
    Warning,
    /// What is only said.
    Note,
}

impl Severity {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A line of the list.
#[derive(Debug)]
pub struct Row {
    /// The stable ID, such as `port-taken`.
    pub id: &'static str,
    pub severity: Severity,
    /// Whether `create` looks at it too.
    pub in_create: bool,
    /// What is looked at.
    pub looks_at: &'static str,
    /// What it means that this is not as it should be.
    pub means: &'static str,
    /// What to do, unless a failure knows better.
    pub helps: &'static str,
}

/// Whether `create` looks at a check of this kind too.
macro_rules! in_create {
    (both) => {
        true
    };
    (doctor) => {
        false
    };
}

macro_rules! list {
    ($($name:ident = $id:literal, $severity:ident, $who:ident: $looks_at:literal, $means:literal, $helps:literal;)+) => {
        /// Which check it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Id { $(#[doc = $looks_at] $name,)+ }

        const ROWS: &[Row] = &[$(Row {
            id: $id,
            severity: Severity::$severity,
            in_create: in_create!($who),
            looks_at: $looks_at,
            means: $means,
            helps: $helps,
        },)+];

        impl Id {
            /// Every check, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

impl Id {
    /// Its line.
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

list! {
    EngineAddress = "engine-address", Error, both: "`DOCKER_HOST`, the Docker context and the certificates for TLS",
        "they do not lead to an engine", "`docker context ls` shows where engines are; `unset DOCKER_HOST` selects the engine of this host";
    EngineUnreachable = "engine-unreachable", Error, both: "whether the engine answers",
        "nothing can be created", "`sudo systemctl start docker`";
    EnginePermission = "engine-permission", Error, both: "whether this user may use the engine",
        "nothing can be created", "`sudo usermod -aG docker $USER`, then log in again";
    EngineUnsupported = "engine-unsupported", Error, both: "the kind and the version of the engine",
        "it is Podman, or older than Docker 20.10, and lacks what nodes need", "`docker version` shows what it is; update it";
    WindowsContainers = "windows-containers", Error, both: "the engine's kind of containers",
        "nodes are Linux containers", "switch Docker Desktop to Linux containers";
    RootlessEngine = "rootless-engine", Error, both: "whether the engine runs as root",
        "nodes need rights that it cannot give", "`docker context use default` selects the engine that runs as root";
    Architecture = "unsupported-architecture", Error, both: "the engine's processor",
        "the node images are for amd64 and arm64", "use an engine on amd64 or arm64";
    EngineApart = "engine-apart", Error, both: "whether clusters can be reached from here",
        "coracle runs in a container that does not belong to this engine", "run the container with `--network host`";
    SnapEngine = "snap-engine", Warning, doctor: "whether the engine is Docker's snap",
        "it sees neither `/tmp` nor hidden directories, so that mounts from there are empty", "install Docker from https://docs.docker.com/engine/install";
    OldCgroups = "old-cgroups", Note, doctor: "the version of the engine's cgroups",
        "Kubernetes will drop support for cgroup v1; until then, nodes work", "boot the host with `systemd.unified_cgroup_hierarchy=1`";
    LittleMemory = "little-memory", Warning, doctor: "the memory of the engine's host compared with what the nodes themselves use",
        "programs of nodes or pods may be killed", "give Docker Desktop's or the virtual machine more memory, or use fewer nodes";
    FewProcessors = "few-processors", Warning, doctor: "the processors of the engine's host",
        "a cluster starts slowly, and may not be ready in time", "`coracle create cluster --wait 10m` waits longer";
    ClockApart = "clock-apart", Warning, both: "the clock of the engine's host compared with that of this host",
        "certificates look expired or not yet valid, and times in logs do not match", "`sudo timedatectl set-ntp true`";
    StorageDriver = "slow-storage-driver", Warning, doctor: "the engine's storage driver",
        "each node takes as much disk space as its image", "set `\"storage-driver\": \"overlay2\"` in /etc/docker/daemon.json, and restart Docker";
    DiskFull = "disk-full", Error, both: "free space on the engine's disk",
        "a cluster cannot start", "`docker system prune` frees some";
    DiskLow = "disk-low", Warning, doctor: "whether 4 GiB are free on the engine's disk",
        "images may not fit into the nodes", "`docker system prune` frees some";
    InodesLow = "inodes-low", Warning, doctor: "free inodes on the engine's disk",
        "no more files can be created although space is left", "`docker system prune` frees some";
    NoSubnet = "no-subnet", Error, both: "whether a private subnet is left for the cluster's network",
        "the cluster would have no addresses", "`docker network prune` removes unused networks";
    InotifyLimit = "inotify-limit", Error, both: "inotify instances in use compared with the kernel's limit",
        "systemd, containerd or the kubelet of a node cannot start", "`sudo sysctl fs.inotify.max_user_instances=512`";
    InotifyTight = "inotify-tight", Warning, both: "inotify instances that the nodes will use",
        "components notice changes late, and later nodes fail", "`sudo sysctl fs.inotify.max_user_instances=512`";
    InotifyWatches = "inotify-watches", Warning, doctor: "the kernel's limit of inotify watches",
        "programs in pods fail with \"no space left on device\"", "`sudo sysctl fs.inotify.max_user_watches=524288`";
    NoIpv6 = "no-ipv6", Error, both: "IPv6 of the kernel, for clusters with IPv6",
        "nodes would have no IPv6 addresses", "`sudo sysctl net.ipv6.conf.all.disable_ipv6=0`";
    NoIpvs = "no-ipvs", Error, both: "IPVS of the kernel, for clusters with `kubeProxyMode: ipvs`",
        "kube-proxy would not start", "set `networking.kubeProxyMode: nftables`";
    SmallPackets = "small-packets", Error, both: "the MTU of the engine's networks, for clusters with IPv6",
        "IPv6 needs packets of 1,280 bytes", "raise `mtu` in /etc/docker/daemon.json";
    NoForwarding = "no-forwarding", Warning, doctor: "whether the kernel forwards packets",
        "nodes and pods reach nothing outside", "`sudo sysctl net.ipv4.ip_forward=1`";
    ForwardDropped = "forward-dropped", Warning, doctor: "nftables rules that drop forwarded packets (needs root)",
        "nodes and pods reach nothing outside, or not each other", "`sudo nft list ruleset` shows the rules: let packets of the engine's networks pass";
    AppArmor = "apparmor-profile", Warning, doctor: "AppArmor profiles of the host for programs that pods often run",
        "the kernel confines these programs in pods too, and they may fail", "`sudo aa-disable PROFILE`";
    SmallUplink = "small-uplink", Warning, both: "the MTU of this host's uplink compared with those of the engine's networks",
        "names resolve, but downloads in pods may hang", "set `mtu` in /etc/docker/daemon.json, and restart Docker";
    Proxy = "proxy-unusable", Warning, both: "proxies at this host's loopback",
        "nodes cannot reach them, and do not get them", "let the proxy listen on all addresses of this host";
    RouteAcross = "route-across", Warning, both: "this host's routes compared with the subnets of pods and Services",
        "pods cannot reach what is behind the route", "set another `networking.podSubnet` or `networking.serviceSubnet`";
    Cache = "cache-unusable", Warning, doctor: "whether coracle's cache can be written, and programs run there",
        "`coracle kubectl` and `coracle build` fail", "set XDG_CACHE_HOME to a directory elsewhere";
    DockerConfig = "docker-config", Warning, doctor: "whether the Docker configuration can be read",
        "images that need a login cannot be pulled, and proxies are not found", "correct the file";
    CredentialHelper = "credential-helper", Warning, doctor: "whether the credential helpers of the Docker configuration are installed",
        "images that need a login cannot be pulled", "install the helper, or remove it from the Docker configuration";
    KubeconfigUnusable = "kubeconfig-unusable", Error, both: "whether the kubeconfig can be read and written",
        "the cluster's entry cannot be added", "use another file with `--kubeconfig FILE`";
    KubeconfigInvalid = "kubeconfig-invalid", Error, both: "whether the kubeconfig can be understood",
        "the cluster's entry cannot be added", "correct the file, or use another with `--kubeconfig FILE`";
    KubeconfigLocked = "kubeconfig-locked", Error, both: "locks of the kubeconfig",
        "a program that was killed has left one; neither kubectl nor coracle can change the file", "remove the lock";
    KubeconfigOpen = "kubeconfig-open", Warning, doctor: "whether other users can read the keys in the kubeconfig",
        "they can administer the clusters", "`chmod o-rwx ~/.kube/config`";
    LeadsNowhere = "kubeconfig-leads-nowhere", Warning, doctor: "entries of coracle and of kind in the kubeconfig whose cluster is gone",
        "kubectl ends with \"connection refused\"", "`coracle delete cluster --name NAME` removes the entry";
    KubeconfigStale = "kubeconfig-stale", Warning, doctor: "entries for a cluster that was recreated",
        "kubectl ends with \"certificate signed by unknown authority\"", "`coracle export kubeconfig --name NAME`";
    CertificateEnds = "certificate-ends", Warning, doctor: "whether certificates of entries are valid for 30 days more",
        "kubectl will be refused", "recreate the cluster";
    KubectlSkew = "kubectl-skew", Warning, doctor: "the version of kubectl compared with those of the clusters",
        "kubectl supports clusters one minor version older or newer", "`coracle kubectl` has the cluster's own version";
    ConfigInvalid = "config-invalid", Error, both: "the configuration",
        "no cluster can be created from it", "correct the file";
    ConfigOdd = "config-odd", Warning, both: "settings that are valid but probably unintended",
        "the cluster may not be what you want", "change the file if this is unintended";
    NodeImageMissing = "node-image-missing", Warning, doctor: "whether the node images are here",
        "`create` must pull them first", "`coracle build node-image`";
    NodeImagePlatform = "node-image-platform", Error, both: "the processors that the node images are for",
        "the nodes cannot boot", "pull or build the image for the engine's processor";
    ClusterExists = "cluster-exists", Error, both: "whether the cluster's name is free",
        "a cluster of this name exists", "choose another `--name`, or delete the cluster";
    OldVolumes = "old-volumes", Error, both: "volumes of an earlier cluster of this name",
        "the new cluster would start with old data", "`coracle delete cluster --name NAME`";
    PortTaken = "port-taken", Error, both: "ports of this host that the configuration names",
        "another program or container has one", "`sudo ss -lnp` shows what uses it";
    AddressAbsent = "address-absent", Error, both: "addresses of this host that the configuration names",
        "this host does not have one", "`ip address` lists those that it has";
    MountMissing = "mount-missing", Error, both: "paths of this host that the nodes mount",
        "one does not exist", "make the directory, or correct the path";
    MountNotShared = "mount-not-shared", Error, both: "file systems of mounts with propagation",
        "the kernel propagates only what is shared", "`sudo mount --make-rshared PATH`";
    MemoryTooLarge = "memory-too-large", Error, both: "`memory` of the nodes against the engine's host",
        "the engine cannot give or limit so much", "set less `memory`";
    MemoryOvercommitted = "memory-overcommitted", Warning, doctor: "`memory` of all nodes together",
        "pods that use what they were promised may be killed", "set less `memory`, or use fewer nodes";
    CpusTooMany = "cpus-too-many", Error, both: "`cpus` of the nodes against the engine's host",
        "the engine cannot give or limit so many", "set fewer `cpus`";
    UlimitTooHigh = "ulimit-too-high", Error, both: "`ulimits` of the nodes against those of the engine",
        "the engine would silently lower the limit", "set a lower limit";
    DeviceMissing = "device-missing", Error, both: "`devices` of the nodes",
        "the host or the engine has no such device", "correct the path or the name";
    SubnetInUse = "subnet-in-use", Error, both: "`nodeSubnet` compared with the engine's networks",
        "a network has these addresses", "set another `networking.nodeSubnet`";
    SubnetRouted = "subnet-routed", Error, both: "`nodeSubnet` compared with this host's routes",
        "packets for nodes would go elsewhere", "set another `networking.nodeSubnet`";
    CredentialsMissing = "credentials-missing", Error, both: "credentials of this host for registries with `login`",
        "the nodes could not pull from there", "`docker login HOST`";
    Leftovers = "leftovers", Warning, doctor: "leftovers of killed commands",
        "they take space, names and addresses", "`coracle gc`";
    ClusterExpired = "cluster-expired", Warning, doctor: "clusters whose time is over",
        "they take space", "`coracle gc`, or `coracle extend NAME --ttl 2h` to keep one";
    ClusterUnfinished = "cluster-unfinished", Warning, doctor: "incomplete clusters, and leftovers that may still be in use",
        "`create` or `delete` was killed elsewhere", "`coracle delete cluster --name NAME`";
    ClusterStopped = "cluster-stopped", Note, doctor: "clusters that are stopped or paused",
        "nothing of them answers", "`coracle start NAME`";
    ClusterPartial = "cluster-partial", Warning, doctor: "clusters of which some containers run and others do not",
        "pods and Services may not work", "`coracle start NAME`";
    NodeRestarting = "node-restarting", Warning, doctor: "nodes that keep restarting, or that the engine could not remove",
        "the node does not start", "`coracle export logs --name NAME` shows why";
    NetworkAstray = "network-astray", Warning, doctor: "by which route this host reaches the nodes of running clusters",
        "a VPN or a routing policy has taken their addresses", "`sudo ip rule add to SUBNET table main priority 1`";
    NetworkMissing = "network-missing", Warning, doctor: "networks of stopped clusters",
        "`docker network prune` has removed one, and the cluster cannot start", "`coracle delete cluster --name NAME`, then create it again";
    PortLost = "port-lost", Warning, doctor: "ports of stopped clusters",
        "another program or container uses one now, and the cluster cannot start", "`sudo ss -lnp` shows what uses it";
    RegistryStopped = "registry-stopped", Warning, doctor: "local registries that do not run",
        "nodes cannot pull from there", "`docker start NAME`";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_line_of_its_own() {
        let mut ids: Vec<&str> = Id::ALL.iter().map(|id| id.row().id).collect();
        assert_eq!(ids.len(), ROWS.len());
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ROWS.len());
        assert_eq!(Id::PortTaken.row().id, "port-taken");
        for row in ROWS {
            assert!(!row.helps.ends_with('.') && !row.means.contains('|') && !row.looks_at.contains('|'), "{}", row.id);
        }
    }
}
