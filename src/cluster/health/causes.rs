//! Why a cluster does not come up: every cause that is known, in one list. Pure: what was seen goes in, the cause comes out.
//! docs/reference/failed-create.md shows the list.

use crate::cluster::health::facts::Facts;
use crate::error::{Code, Error};

/// A line of the list.
#[derive(Debug)]
pub struct Row {
    /// The stable ID, such as `dns-loop`.
    pub id: &'static str,
    /// The error that it is; `None`: that of what fails because of it.
    pub code: Option<Code>,
    /// No other attempt can go better: it is told at the first sight.
    pub is_final: bool,
    /// What is looked at.
    pub looks_at: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What to do, unless what is seen says more.
    pub helps: &'static str,
    /// Finds it.
    sees: fn(&Evidence) -> Option<Seen>,
}

/// What a cause is looked for in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// What was seen in the node.
    pub facts: &'a Facts,
    /// Lines of the log of what fails, warnings of the API, or the words of a failure.
    pub lines: &'a [String],
}

/// What shows a cause.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// One line.
    line: String,
    /// What to do, if that is more than the list says.
    hint: Option<String>,
}

impl Seen {
    fn line(line: &str) -> Self {
        Self { line: line.to_owned(), hint: None }
    }
}

macro_rules! list {
    ($($name:ident = $id:literal, $code:expr, $final:literal, $sees:path: $looks_at:literal, $means:literal, $helps:expr;)+) => {
        /// Which cause it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Cause { $(#[doc = $means] $name,)+ }

        const ROWS: &[Row] = &[$(Row {
            id: $id, code: $code, is_final: $final, looks_at: $looks_at, means: $means, helps: $helps, sees: $sees,
        },)+];

        impl Cause {
            /// Every cause, in the order in which they are looked for.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

impl Cause {
    /// Its line.
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

list! {
    DiskFull = "disk-full", Some(Code::DiskFull), true, full_disk: "free space where nodes have their files",
        "the engine's disk is full", "`docker system df` shows what uses space, `docker system prune` frees some; then create the cluster again";
    OutOfMemory = "out-of-memory", None, false, killed: "processes that the kernel killed in the node",
        "memory is short, and the kernel kills processes of the node", "give the node more `memory`, or the engine's host";
    FewInotify = "inotify", Some(Code::InotifyLimit), true, inotify: "\"too many open files\" in the log of a kubelet, and of a node that stopped",
        "the kernel allows no more inotify instances", crate::host::limits::MORE_INOTIFY;
    Image = "image", Some(Code::ImageMissing), false, asked: "pulls of the images of coracle's own pods, in the log of the kubelet",
        "an image is missing from the node image, or the configuration forces a pull, and the pull fails", "`coracle build node-image` builds an image with everything that a cluster needs";
    Clock = "clock", None, true, clock: "when the certificates of a node begin, and \"not yet valid\" in the logs and in the answer of the API server",
        "the clock of this host and that of the engine's host differ", "set both clocks: `timedatectl set-ntp true`; a virtual machine that slept may need a restart";
    DiskPressure = "disk-pressure", Some(Code::DiskFull), false, disk_pressure: "what the kubelet evicts pods for",
        "the disk has less free than `evictionHard` asks for, and the kubelet evicts pods", "`docker system prune` frees space; or lower `evictionHard` in `kubelet`";
    MemoryPressure = "memory-pressure", None, false, memory_pressure: "what the kubelet evicts pods for",
        "the node has less free memory than `evictionHard` asks for, and the kubelet evicts pods", "give the node more `memory`; or lower `evictionHard` in `kubelet`";
    PortInNode = "port-in-node", None, false, port_in_node: "\"address already in use\" in a component's log, and who listens there",
        "another program in the node has the port", "choose another port for one of them in the configuration";
    Cgroups = "cgroups", None, true, cgroups: "what the kubelet says of cgroups",
        "the kubelet cannot use the cgroups that it is configured to use", "check `cgroupRoot`, `kubeReservedCgroup`, `systemReservedCgroup` and `failCgroupV1` in `kubelet`; `docker info` shows the version of the engine's cgroups";
    DnsLoop = "dns-loop", None, true, dns_loop: "CoreDNS' plugin `loop`, and the resolver of its node",
        "CoreDNS asks itself, because the resolver of its node leads back to it", "name another resolver in `resolvConf` of `kubelet`, or in `forward` of `coreDNS`";
    NoIpvs = "no-ipvs", Some(Code::EngineUnsupported), true, no_ipvs: "what kube-proxy says of IPVS",
        "the kernel of the engine's host has no IPVS", "load it on the engine's host: `sudo modprobe ip_vs`; or set `networking.kubeProxyMode: nftables`";
    Proxy = "proxy", None, false, proxy: "calls of the kubelet to the API server",
        "a proxy stands between the node and the API server", "exclude the cluster's addresses from the proxy with NO_PROXY; `systemctl show kubelet --property=Environment` in the node shows what it has";
    NoRoute = "no-route", None, false, no_route: "calls of the kubelet to the API server",
        "the node has no route to the API server", "`ip route` in the node shows its routes: look for a program or a file in the node that changes them";
    Cni = "cni", None, false, cni: "what containerd says of the pod network, and warnings about pods without one",
        "the CNI plugin does not work, so that the node is not Ready or pods get no addresses", "check the files in /etc/cni/net.d of the node, and the pods of the CNI plugin";
    Webhook = "webhook", None, false, webhook: "calls of the API server to webhooks, in its warnings",
        "a webhook that does not answer refuses pods", "set `failurePolicy: Ignore`, or leave out `kube-system` with a `namespaceSelector`";
    OtherCluster = "other-cluster", None, false, other_cluster: "the certificate of what answers at the API server's address",
        "another server answers at the API server's address, and its certificate does not belong to this cluster", "look for something that forwards this port: `sudo iptables -t nat --list-rules`, an SSH tunnel, or a program with the same port";
    SmallPackets = "packets", None, false, packets: "TLS with the API server and with registries",
        "large packets are lost on the way", "`ip link` shows the sizes (mtu) of the links; set `mtu` in /etc/docker/daemon.json to that of the smallest, and restart Docker";
    Setting = "setting", None, true, setting: "what a component says of its flags and its configuration",
        "it rejects a setting of the configuration", "correct the setting that the line names";
    NotReached = "not-reached", None, false, asked: "whether this host reaches an API server that works in its node",
        "the API server works in its node, but this host does not reach it", "look for a VPN, a firewall or a route of this host that takes its connections: `ip route`";
}

/// Words of a mistake in a setting, in the line with which a component ends.
const OF_SETTINGS: [&str; 9] = [
    "flag",
    // Of the kubelet, about a signal or resource that it does not have.
    "unsupported",
    "invalid",
    "unrecognized",
    "unknown",
    "not defined",
    "cannot unmarshal",
    "failed to parse",
    "is not a valid",
];

/// What can end a component of the control plane, the kubelet or CoreDNS.
pub(super) const OF_COMPONENTS: [Cause; 12] = [
    Cause::DiskFull,
    Cause::OutOfMemory,
    Cause::FewInotify,
    Cause::Clock,
    Cause::PortInNode,
    Cause::Cgroups,
    Cause::DnsLoop,
    Cause::NoIpvs,
    Cause::Proxy,
    Cause::NoRoute,
    Cause::OtherCluster,
    Cause::Setting,
];

/// What a node shows although all of its components run.
pub(super) const OF_NODES: [Cause; 6] =
    [Cause::Clock, Cause::DiskPressure, Cause::MemoryPressure, Cause::Proxy, Cause::NoRoute, Cause::Cni];

/// What the warnings of an API server that answers show, and what a wait gave up with.
pub(super) const OF_WARNINGS: [Cause; 6] =
    [Cause::Webhook, Cause::DiskPressure, Cause::MemoryPressure, Cause::Clock, Cause::SmallPackets, Cause::Cni];

/// What the words of a connection show that failed.
pub(super) const OF_CONNECTIONS: [Cause; 3] = [Cause::Clock, Cause::OtherCluster, Cause::SmallPackets];

/// A cause that was found, with what shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) cause: Cause,
    seen: Seen,
}

impl Found {
    /// What is wrong and what shows it, for an error that has another first line.
    fn reason(&self) -> String {
        let means = self.cause.row().means;
        if self.seen.line.is_empty() { means.to_owned() } else { format!("{means}: {}", self.seen.line) }
    }

    /// The error of something that fails because of this; it keeps its first line.
    pub(super) fn explain(&self, error: Error) -> Error {
        let row = self.cause.row();
        let code = row.code.unwrap_or(error.code());
        // Which setting it is, whose it is knows best.
        let (error, help) = if self.cause == Cause::Setting && !error.hints().is_empty() {
            (error.because(&self.seen.line), None)
        } else {
            (error.without_hints(|_| true).because(self.reason()), Some(self.help()))
        };
        error.with_code(code).with_hints(help).of_cause(row.id)
    }

    /// An error of its own.
    pub(super) fn error(&self, code: Code) -> Error {
        let row = self.cause.row();
        let error = Error::new(row.code.unwrap_or(code), row.means).hint(self.help()).of_cause(row.id);
        if self.seen.line.is_empty() { error } else { error.because(&self.seen.line) }
    }

    fn help(&self) -> String {
        self.seen.hint.clone().unwrap_or_else(|| self.cause.row().helps.to_owned())
    }
}

/// The first cause of the list that is seen.
#[cfg(test)]
fn find(evidence: &Evidence) -> Option<Found> {
    find_among(Cause::ALL, evidence)
}

/// The first of these causes that is seen.
pub(super) fn find_among(causes: &[Cause], evidence: &Evidence) -> Option<Found> {
    causes.iter().find_map(|cause| Some(Found { cause: *cause, seen: (cause.row().sees)(evidence)? }))
}

/// The last line that says one of these, whatever its case.
fn says<'a>(evidence: &Evidence<'a>, words: &[&str]) -> Option<&'a str> {
    let has = |line: &&'a String| {
        let lower = line.to_lowercase();
        words.iter().any(|word| lower.contains(word))
    };
    evidence.lines.iter().rev().find(has).map(String::as_str)
}

fn line_with(evidence: &Evidence, words: &[&str]) -> Option<Seen> {
    says(evidence, words).map(Seen::line)
}

fn full_disk(evidence: &Evidence) -> Option<Seen> {
    let full = evidence.facts.is_full.then(|| Seen::line("no space left on device"));
    full.or_else(|| line_with(evidence, &["no space left on device"]).filter(|seen| !seen.line.contains("inotify")))
}

fn killed(evidence: &Evidence) -> Option<Seen> {
    let killed = &evidence.facts.killed;
    let last = killed.last()?;
    let mut programs: Vec<String> = killed.iter().map(|killed| format!("`{}`", killed.program)).collect();
    programs.sort();
    programs.dedup();
    let by = if last.by_limit { "the node has reached its `memory`" } else { "the engine's host has no memory left" };
    let help = if last.by_limit {
        "give the node more `memory`, or put less into /tmp and /run, which are in its memory"
    } else {
        "give the engine's host more memory, or run less beside the cluster"
    };
    Some(Seen {
        line: format!("{by}, and {} was killed", programs.join(", ")),
        hint: Some(format!("{help}; `coracle top` shows the use")),
    })
}

fn inotify(evidence: &Evidence) -> Option<Seen> {
    let line = says(evidence, &["too many open files"])?;
    let lower = line.to_lowercase();
    ["notify", "watcher"].iter().any(|word| lower.contains(word)).then(|| Seen::line(line))
}

fn clock(evidence: &Evidence) -> Option<Seen> {
    let begins = evidence.facts.begins.as_ref();
    let told = begins.map(|begins| Seen::line(&format!("the node's certificates are not yet valid: {begins}")));
    told.or_else(|| line_with(evidence, &["not yet valid", "notvalidyet"]))
}

fn disk_pressure(evidence: &Evidence) -> Option<Seen> {
    let evicts = ["resourcename=\"ephemeral-storage\"", "resourcename=\"inodes\""];
    line_with(evidence, &evicts).or_else(|| line_with(evidence, &["node.kubernetes.io/disk-pressure"]))
}

fn memory_pressure(evidence: &Evidence) -> Option<Seen> {
    line_with(evidence, &["resourcename=\"memory\"", "node.kubernetes.io/memory-pressure"])
}

fn port_in_node(evidence: &Evidence) -> Option<Seen> {
    let line = says(evidence, &["address already in use"])?;
    let before = line.to_lowercase();
    let before = &line[..before.find(": bind: address already in use")?];
    let port = before.rsplit_once(':')?.1;
    let holder = evidence.facts.listeners.iter().find(|(listener, _)| port.parse() == Ok(*listener));
    let line = holder.map_or_else(|| line.to_owned(), |(_, program)| format!("`{program}` listens at port {port}"));
    Some(Seen { line, hint: None })
}

fn cgroups(evidence: &Evidence) -> Option<Seen> {
    line_with(
        evidence,
        &[
            "invalid configuration: cgroup",
            "using cgroup v1",
            "cgroup not found",
            "cgroup driver",
            "cgroup-root",
            "failed to initialize top level qos containers",
            "cgroup is not configured",
        ],
    )
}

fn dns_loop(evidence: &Evidence) -> Option<Seen> {
    line_with(evidence, &["plugin/loop: loop"])
}

fn no_ipvs(evidence: &Evidence) -> Option<Seen> {
    line_with(evidence, &["ipvs proxier"])
}

fn setting(evidence: &Evidence) -> Option<Seen> {
    let last = evidence.lines.last()?;
    let lower = last.to_lowercase();
    OF_SETTINGS.iter().any(|word| lower.contains(word)).then(|| Seen::line(last))
}

fn proxy(evidence: &Evidence) -> Option<Seen> {
    line_with(evidence, &["proxyconnect"])
}

fn no_route(evidence: &Evidence) -> Option<Seen> {
    line_with(evidence, &["no route to host", "network is unreachable"])
}

fn cni(evidence: &Evidence) -> Option<Seen> {
    let of_pods = ["networkpluginnotready", "failed to setup network for sandbox", "failed to find plugin"];
    let loaded = &evidence.facts.network;
    let is_wrong = loaded.contains("failed to load CNI config") || loaded.contains("error parsing");
    if is_wrong {
        let status = loaded.split_once(": \"").map_or(loaded.as_str(), |(_, text)| text.trim_end_matches(['"', ',']));
        return Some(Seen::line(&status.replace("\\\"", "\"")));
    }
    line_with(evidence, &of_pods)
}

fn webhook(evidence: &Evidence) -> Option<Seen> {
    let line = says(evidence, &["failed calling webhook", "failed to call webhook"])?;
    let name = line.split_once("webhook \"").and_then(|(_, rest)| rest.split('"').next());
    let hint = name.map(|name| {
        format!("correct the webhook `{name}` (what it calls must run and answer): set `failurePolicy: Ignore`, or leave out `kube-system` and its own pods with a `namespaceSelector`")
    });
    Some(Seen { line: line.to_owned(), hint })
}

fn other_cluster(evidence: &Evidence) -> Option<Seen> {
    line_with(evidence, &["invalid peer certificate", "certificate signed by unknown authority", "unknownissuer"])
}

fn packets(evidence: &Evidence) -> Option<Seen> {
    line_with(evidence, &["tls handshake timeout", "tls handshake did not end"])
}

/// Found by who has asked, not in words.
fn asked(_: &Evidence) -> Option<Seen> {
    None
}

/// What is found by asking, and not by reading.
pub(super) fn found(cause: Cause, line: &str) -> Found {
    Found { cause, seen: Seen::line(line) }
}

#[cfg(test)]
#[path = "causes_tests.rs"]
mod tests;
