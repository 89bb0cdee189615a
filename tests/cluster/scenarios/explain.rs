//! Every cause that a failed `create` can name, provoked on real nodes. docs/reference/failed-create.md lists them.
//!
//! The clusters are made several at once: most of them wait for something that never comes.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::doctor_host::{apart, with_modules};
use super::failures::nothing_left;
use crate::Group;
use crate::harness::chance::is_long;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, json};
use crate::harness::run::{LIMIT, Output, contains, ensure, run};

/// How long a create may take that fails by itself; it would wait for five minutes.
const QUICK: Duration = Duration::from_secs(290);
/// How long a cluster is waited for where nothing but the end of the wait shows that something is wrong.
const WAIT: &str = "--wait=75s";

/// Creates that fail, each with its cause.
pub const EXPLAIN: Group = Group {
    name: "explain",
    environment: &[],
    create: nothing_yet,
    together: &[
        ("webhook", webhook),
        ("packets", packets),
        ("out-of-memory", out_of_memory),
        ("port-in-node", port_in_node),
        ("no-route", no_route),
        ("proxy", proxy),
        ("cni", cni),
        ("disk-pressure", disk_pressure),
        ("memory-pressure", memory_pressure),
        ("dns-loop", dns_loop),
        ("no-ipvs", no_ipvs),
        ("clock", clock),
        ("other-cluster", other_cluster),
        ("not-reached", not_reached),
        ("image", image),
        ("cgroups", cgroups),
        ("node-exited", node_exited),
    ],
    scenarios: &[],
};

/// Whether a scenario is left to the long run: it waits for something that never comes, beside other clusters.
fn is_left_out() -> bool {
    if !is_long() {
        println!("        left to the long run");
    }
    !is_long()
}

fn nothing_yet(cluster: &Cluster) -> Result<(), String> {
    nothing_left(cluster)
}

/// A create that failed.
struct Failed {
    own: Cluster,
    output: Output,
}

impl Failed {
    /// It failed with this error and this cause, and says all these parts; the logs are kept, and nothing else is left.
    fn of(&self, error: &str, cause: &str, parts: &[&str]) -> Result<(), String> {
        let event = self.error()?;
        ensure(event["id"] == error, || self.output.told())?;
        ensure(event["causeId"] == cause, || self.output.told())?;
        ensure(event["hints"][0].is_string(), || self.output.told())?;
        let text = event.to_string();
        parts.iter().try_for_each(|part| contains(&text, part))?;
        self.clean()
    }

    fn error(&self) -> Result<Value, String> {
        ensure(self.output.code != 0, || self.output.told())?;
        let last = self.output.stdout.lines().last().unwrap_or_default();
        json(last)
    }

    /// Its logs are in the cache, without keys, and nothing is left of it in the engine.
    fn clean(&self) -> Result<(), String> {
        let logs = self.own.home.join(".cache/coracle/logs");
        let said = format!("{}{}", self.output.stdout, self.output.stderr);
        contains(&said, &format!("The logs of the nodes are in {}", logs.display()))?;
        let mut files = Vec::new();
        super::security::files_below(&logs, &mut files);
        let has = files.iter().any(|path| path.ends_with(format!("{}/kubelet.log", self.own.node())));
        let stopped = files.iter().any(|path| path.ends_with(format!("{}/inspect.json", self.own.node())));
        ensure(has || stopped, || format!("no log among {files:?}"))?;
        super::security::without_private_keys("the kept logs", &super::security::content(&files))?;
        super::mistakes::nothing_of(&self.own.name)
    }
}

/// A cluster of its own, whose configuration is this; `DIRECTORY` in it stands for a directory with its files.
fn fail(cluster: &Cluster, config: &str, more: &[&str]) -> Result<Failed, String> {
    fail_as(cluster, config, more, &[])
}

fn fail_as(cluster: &Cluster, config: &str, more: &[&str], variables: &[(&str, &str)]) -> Result<Failed, String> {
    let (own, path) = own_with(cluster, config)?;
    let mut command = own.command(&["create", "cluster", "--config", &path, "--output=json"]);
    command.args(more).envs(variables.iter().copied());
    let output = run(command, None, QUICK)?;
    Ok(Failed { own, output })
}

/// A cluster of its own that does not exist yet, and the path of its configuration.
fn own_with(cluster: &Cluster, config: &str) -> Result<(Cluster, String), String> {
    let mut own = cluster.beside("own")?;
    let purpose = cluster.home.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    own.name = format!("{}x-{purpose}-{}", cleanup::PREFIX, std::process::id());
    cleanup::register(&own.name, &own.home);
    let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{config}\n");
    let path = own.write("cluster.yaml", &text.replace("DIRECTORY", &cluster.home.display().to_string()))?;
    Ok((own, path))
}

/// One node with a file of this content at this path.
fn with_file(cluster: &Cluster, path: &str, content: &str) -> Result<String, String> {
    cluster.write("file", content)?;
    Ok(format!("{{role: control-plane, extraMounts: [{{hostPath: DIRECTORY/file, containerPath: {path}}}]}}"))
}

/// The same with settings for the kubelet's unit.
fn with_unit(cluster: &Cluster, settings: &str) -> Result<String, String> {
    with_file(cluster, "/etc/systemd/system/kubelet.service.d/90-t.conf", &format!("[Service]\n{settings}\n"))
}

fn cgroups(cluster: &Cluster) -> Result<(), String> {
    let failed = fail(cluster, "kubelet: {cgroupRoot: /absent}", &[])?;
    failed.of("component-failed", "cgroups", &["the kubelet keeps failing", "absent", "cgroupRoot"])
}

/// The kubelet takes the port of the controller manager, and is named.
fn port_in_node(cluster: &Cluster) -> Result<(), String> {
    let failed = fail(cluster, "kubelet: {healthzPort: 10257}", &[])?;
    let parts = ["kube-controller-manager keeps failing", "`kubelet` listens at port 10257"];
    failed.of("component-failed", "port-in-node", &parts)
}

/// A large file in `/tmp`, which is in memory, takes what the components need.
fn out_of_memory(cluster: &Cluster) -> Result<(), String> {
    if is_left_out() {
        return Ok(());
    }
    let unit = with_unit(cluster, "ExecStartPre=/bin/sh -c 'head -c 610M /dev/zero >/tmp/t'")?;
    let unit = unit.replace("role: control-plane", "role: control-plane, memory: 768Mi");
    let failed = fail(cluster, &format!("nodes: [{unit}]"), &[])?;
    let event = failed.error()?;
    ensure(["component-failed", "not-ready"].iter().any(|id| event["id"] == *id), || failed.output.told())?;
    let id = event["id"].as_str().unwrap_or_default().to_owned();
    failed.of(&id, "out-of-memory", &["the node has reached its `memory`", "was killed", "more `memory`"])
}

fn disk_pressure(cluster: &Cluster) -> Result<(), String> {
    if is_left_out() {
        return Ok(());
    }
    cluster.write("slow.yaml", SLOW)?;
    let config = "kubelet: {evictionHard: {nodefs.available: 99%}}\nmanifests: [DIRECTORY/slow.yaml]";
    fail(cluster, config, &[])?.of("disk-full", "disk-pressure", &["evictionHard", "ephemeral-storage"])
}

fn memory_pressure(cluster: &Cluster) -> Result<(), String> {
    cluster.write("slow.yaml", SLOW)?;
    let config = "kubelet: {evictionHard: {memory.available: 99%}}\nmanifests: [DIRECTORY/slow.yaml]";
    fail(cluster, config, &[])?.of("not-ready", "memory-pressure", &["evictionHard"])
}

/// A Deployment that is never ready: the kubelet looks for pressure ten seconds after its start, when a cluster is usable.
const SLOW: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: slow, namespace: default}\nspec:\n  \
    selector: {matchLabels: {app: slow}}\n  template:\n    metadata: {labels: {app: slow}}\n    spec:\n      \
    nodeSelector: {absent: 'true'}\n      containers: [{name: a, image: 'registry.k8s.io/pause:3.10.1'}]\n";

/// CoreDNS asks the resolver of its node, which is CoreDNS.
fn dns_loop(cluster: &Cluster) -> Result<(), String> {
    let node = with_file(cluster, "/etc/t-resolv.conf", "nameserver 10.96.0.10\n")?;
    let failed = fail(cluster, &format!("kubelet: {{resolvConf: /etc/t-resolv.conf}}\nnodes: [{node}]"), &[])?;
    failed.of("component-failed", "dns-loop", &["CoreDNS asks itself", "resolvConf"])
}

/// A kernel that seems to have IPVS, and has not: kube-proxy is the first that finds out.
fn no_ipvs(cluster: &Cluster) -> Result<(), String> {
    if Path::new("/proc/net/ip_vs").exists() {
        println!("        this kernel has IPVS");
        return Ok(());
    }
    let (own, path) = own_with(cluster, "networking: {kubeProxyMode: ipvs}")?;
    let script = with_modules("kernel/net/netfilter/ipvs/ip_vs.ko");
    let create = ["create", "cluster", "--config", &path, "--output=json"];
    let Some(output) = apart(&own, "--mount", &script, &create)? else { return Ok(()) };
    Failed { own, output }.of("engine-unsupported", "no-ipvs", &["has no IPVS", "nftables"])
}

fn proxy(cluster: &Cluster) -> Result<(), String> {
    if is_left_out() {
        return Ok(());
    }
    let unit = with_unit(cluster, "Environment=HTTPS_PROXY=http://127.0.0.1:1 NO_PROXY=")?;
    fail(cluster, &format!("nodes: [{unit}]"), &[])?.of("not-ready", "proxy", &["proxyconnect", "NO_PROXY"])
}

/// A worker with a route that takes the address of the API server away.
fn no_route(cluster: &Cluster) -> Result<(), String> {
    if is_left_out() {
        return Ok(());
    }
    let server = "grep server: /etc/kubernetes/kubelet.conf | tr -cd .:0-9 | cut -d: -f3";
    let unit = with_unit(cluster, &format!("ExecStartPre=/bin/sh -c \"ip route add unreachable $$({server})\""))?;
    let worker = unit.replace("control-plane", "worker");
    let failed = fail(cluster, &format!("nodes: [{{role: control-plane}}, {worker}]"), &[])?;
    let node = format!("{}-worker", failed.own.name);
    failed.of("not-ready", "no-route", &[&node, "no route to host", "ip route"])
}

/// A file of another CNI plugin that cannot be read, before coracle's.
fn cni(cluster: &Cluster) -> Result<(), String> {
    if is_left_out() {
        return Ok(());
    }
    let node = with_file(cluster, "/etc/cni/net.d/00-t.conflist", "this is no JSON\n")?;
    let failed = fail(cluster, &format!("nodes: [{node}]"), &[])?;
    failed.of("not-ready", "cni", &["00-t.conflist", "/etc/cni/net.d"])
}

/// A webhook that no one serves, and a Deployment whose pods it refuses.
fn webhook(cluster: &Cluster) -> Result<(), String> {
    if is_left_out() {
        return Ok(());
    }
    let hook = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\n\
        metadata: {name: t-gate}\nwebhooks:\n- name: pods.gate.example\n  admissionReviewVersions: [v1]\n  \
        sideEffects: None\n  failurePolicy: Fail\n  clientConfig: {service: {namespace: default, name: gate, port: 443}}\n  \
        rules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}]\n---\n";
    cluster.write("hook.yaml", &format!("{hook}{SLOW}"))?;
    let failed = fail(cluster, "manifests: [DIRECTORY/hook.yaml]", &[WAIT])?;
    failed.of("not-ready", "webhook", &["pods.gate.example", "failurePolicy: Ignore", "namespaceSelector"])
}

/// An admission plugin has every image pulled, and no one has coracle's own.
fn image(cluster: &Cluster) -> Result<(), String> {
    let failed = fail(cluster, "apiServer: {enable-admission-plugins: 'NodeRestriction,AlwaysPullImages'}", &[])?;
    failed.of("image-missing", "image", &["but the kubelet pulls it anyway", "AlwaysPullImages"])
}

/// The node's init ends, and with it the node.
fn node_exited(cluster: &Cluster) -> Result<(), String> {
    let unit = with_unit(cluster, "ExecStartPre=/bin/systemctl --force --force poweroff")?;
    let failed = fail(cluster, &format!("nodes: [{unit}]"), &[])?;
    let event = failed.error()?;
    ensure(event["id"] == "node-exited", || failed.output.told())?;
    contains(&event.to_string(), "its container e")?;
    ensure(event["hints"].as_array().is_some_and(|hints| !hints.is_empty()), || failed.output.told())?;
    failed.clean()
}

/// A library that puts the clock of a program two hours ahead.
pub(super) fn clock_ahead(cluster: &Cluster) -> Result<String, String> {
    let source = "#define _GNU_SOURCE\n#include <time.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
        int clock_gettime(clockid_t id, struct timespec *time) {\n  int result = syscall(SYS_clock_gettime, id, time);\n  \
        if (id == CLOCK_REALTIME) time->tv_sec += 7200;\n  return result;\n}\n";
    let (source, library) = (cluster.write("ahead.c", source)?, cluster.home.join("ahead.so").display().to_string());
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o", &library, &source]);
    run(compiler, None, LIMIT)?.ok()?;
    Ok(library)
}

/// This host's clock is two hours ahead of the engine's: the certificates that are made with it are not valid yet.
fn clock(cluster: &Cluster) -> Result<(), String> {
    let library = clock_ahead(cluster)?;
    let failed = fail_as(cluster, "nodes: [{role: control-plane}]", &[], &[("LD_PRELOAD", &library)])?;
    contains(&failed.output.stderr, "the clocks of this host and of the engine's host differ")?;
    let id = failed.error()?["id"].as_str().unwrap_or_default().to_owned();
    failed.of(&id, "clock", &["not yet valid", "timedatectl"])
}

/// A rule of iptables that lasts as long as this value.
struct Rule(Vec<String>);

impl Rule {
    /// A rule for what goes to this port of the loopback; only root can make one.
    fn new(table: &str, port: u16, what: &[&str]) -> Result<Option<Self>, String> {
        let root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
        if !root || Command::new("iptables").arg("--version").output().is_err() {
            println!("        skipped: only root can make a rule of iptables");
            return Ok(None);
        }
        let port = port.to_string();
        let of = ["OUTPUT", "-o", "lo", "-p", "tcp", "-d", "127.0.0.1", "--dport", &port];
        let words = [&["-w", "-t", table][..], &["-I"], &of, what].concat();
        let mut add = Command::new("iptables");
        add.args(&words);
        run(add, None, LIMIT)?.ok()?;
        Ok(Some(Self(words.into_iter().map(|word| if word == "-I" { "-D" } else { word }.to_owned()).collect())))
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        let _ = Command::new("iptables").args(&self.0).status();
    }
}

/// A port that nothing had a moment ago.
pub(super) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn at_port(port: u16) -> String {
    format!("networking: {{apiServerPort: {port}}}")
}

/// A firewall of this host refuses what goes to the API server's port.
fn not_reached(cluster: &Cluster) -> Result<(), String> {
    if is_left_out() {
        return Ok(());
    }
    let port = free_port()?;
    let Some(_rule) = Rule::new("filter", port, &["-j", "REJECT", "--reject-with", "tcp-reset"])? else {
        return Ok(());
    };
    fail(cluster, &at_port(port), &[])?.of("not-ready", "not-reached", &["this host does not reach it", "firewall"])
}

/// Large packets get lost on the way to the API server, small ones do not.
fn packets(cluster: &Cluster) -> Result<(), String> {
    if is_left_out() {
        return Ok(());
    }
    let port = free_port()?;
    let Some(_rule) = Rule::new("filter", port, &["-m", "length", "--length", "150:65535", "-j", "DROP"])? else {
        return Ok(());
    };
    fail(cluster, &at_port(port), &[WAIT])?.of("not-ready", "packets", &["mtu", "TLS handshake"])
}

/// A process that is killed as it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What goes to the API server's port ends at another server, whose certificate is of someone else.
fn other_cluster(cluster: &Cluster) -> Result<(), String> {
    let (port, other) = (free_port()?, free_port()?);
    let (key, certificate) = (cluster.home.join("other.key"), cluster.home.join("other.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days=1"]);
    openssl.args(["-subj", "/CN=other", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout"]).arg(&key);
    openssl.arg("-out").arg(&certificate);
    run(openssl, None, LIMIT)?.ok()?;
    let target = other.to_string();
    let Some(_rule) = Rule::new("nat", port, &["-j", "REDIRECT", "--to-ports", &target])? else { return Ok(()) };
    let mut server = Command::new("openssl");
    server.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{other}"), "-key"]).arg(&key);
    server.arg("-cert").arg(&certificate).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Server(server.spawn().map_err(|error| error.to_string())?);
    let failed = fail(cluster, &at_port(port), &[])?;
    failed.of("not-ready", "other-cluster", &["certificate", "does not belong to this cluster", "iptables"])
}
