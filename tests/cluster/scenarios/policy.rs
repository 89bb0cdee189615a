//! Network policies: the usual recipes with real pods on two nodes, and how fast and how strictly they hold.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::hello::{self, IMAGE};
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{contains, ensure, eventually, start};

/// How long it may take until a change is seen everywhere, several looks included.
pub(super) const SOON: Duration = Duration::from_secs(6);

/// Answers each byte with the same one, at three ports; `http` is the name of another port in each pod.
const SERVER: &str = r"
import socketserver, threading, time
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(100):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 1000
for port in 8080, 8081, 8090:
    threading.Thread(target=Server(('', port), Handler).serve_forever).start()
";

/// Tries all of its arguments at once.
const REACH: &str = r"
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def reach(target):
    host, port = target.rsplit(':', 1)
    try:
        with socket.create_connection((host, int(port)), 1) as s:
            s.settimeout(1)
            s.sendall(b'x')
            return int(s.recv(1) == b'x')
    except OSError:
        return 0
print(*ThreadPoolExecutor(9).map(reach, sys.argv[1:]))
";

/// Keeps one connection busy and opens others, until both ways have failed; tells when each worked last.
const WATCH: &str = r"
import socket, sys, threading, time
target = (sys.argv[1], 8080)
def echo(s):
    s.settimeout(0.3)
    s.sendall(b'x')
    return s.recv(1) == b'x'
def until_it_fails(name, attempt):
    last = 0
    try:
        while attempt():
            last = time.time()
            time.sleep(0.01)
    except OSError:
        pass
    print(name, last, flush=True)
kept = socket.create_connection(target, 0.3)
def fresh():
    with socket.create_connection(target, 0.3) as s:
        return echo(s)
threads = [threading.Thread(target=until_it_fails, args=a) for a in (('kept', lambda: echo(kept)), ('fresh', fresh))]
for t in threads: t.start()
print('watching', flush=True)
";

/// Connects again and again from its first moment on, for two seconds.
const EAGER: &str = r"
import os, socket, time
end, tries, passed = time.time() + 2, 0, 0
while time.time() < end:
    tries += 1
    try:
        socket.create_connection((os.environ['TARGET'], 8080), 0.05).close()
        passed += 1
    except OSError:
        pass
print(f'{tries} tries, {passed} passed', flush=True)
time.sleep(1000)
";

pub(super) fn create(cluster: &Cluster) -> Result<(), String> {
    cluster.create(
        "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes: [{role: control-plane}, {role: worker}]\n",
        &[],
    )?;
    hello::build()?;
    cluster.coracle(&["load", "docker-image", IMAGE])?;
    cluster.kubectl(&["create", "namespace", "shop"])?;
    cluster.kubectl(&["create", "namespace", "other"])?;
    let (first, second) = (cluster.node(), format!("{}-worker", cluster.name));
    let pods = [
        pod("shop", "web", &second, 8080, SERVER, ""),
        pod("shop", "db", &second, 8081, SERVER, ""),
        pod("shop", "client", &first, 8080, SERVER, ""),
        pod("other", "guest", &second, 8080, SERVER, ""),
    ];
    cluster.apply(&pods.join("---\n"))?;
    for (namespace, pods) in [("shop", "pod/web pod/db pod/client"), ("other", "pod/guest")] {
        let mut arguments = vec!["wait", "--namespace", namespace, "--for=condition=Ready", "--timeout=60s"];
        arguments.extend(pods.split(' '));
        cluster.kubectl(&arguments)?;
    }
    Ok(())
}

/// A pod with a label of its name; a failed probe restarts it.
fn pod(namespace: &str, name: &str, node: &str, http: u16, script: &str, more: &str) -> String {
    let script = script.trim().replace('\n', "\n        ");
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{namespace: {namespace}, name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: {IMAGE}
      imagePullPolicy: IfNotPresent
      ports: [{{name: http, containerPort: {http}}}]
{more}      command:
      - python3
      - -c
      - |
        {script}
"
    )
}

fn address(cluster: &Cluster, pod: &str) -> Result<String, String> {
    let (namespace, name) = pod.split_once('/').unwrap_or(("shop", pod));
    let address =
        cluster.kubectl(&["get", "pod", name, "--namespace", namespace, "--output=jsonpath={.status.podIP}"])?;
    ensure(!address.is_empty(), || format!("{pod} has no address"))?;
    Ok(address)
}

/// Runs a script in a pod.
fn python(cluster: &Cluster, pod: &str, script: &str, arguments: &[&str]) -> Result<String, String> {
    let (namespace, name) = pod.split_once('/').unwrap_or(("shop", pod));
    let mut command = vec!["exec", "--namespace", namespace, name, "--", "python3", "-c", script];
    command.extend(arguments);
    cluster.kubectl(&command)
}

/// From a pod, each `pod:port`, and whether it answers; `pod` alone stands for port 8080.
fn expect(cluster: &Cluster, from: &str, targets: &[(&str, bool)]) -> Result<(), String> {
    let mut places = Vec::new();
    for (target, _) in targets {
        let (pod, port) = target.split_once(':').unwrap_or((target, "8080"));
        places.push(format!("{}:{port}", address(cluster, pod)?));
    }
    let arguments: Vec<&str> = places.iter().map(String::as_str).collect();
    eventually(SOON, || {
        let said = python(cluster, from, REACH, &arguments)?;
        for ((target, expected), word) in targets.iter().zip(said.split_whitespace()) {
            ensure((word == "1") == *expected, || {
                format!("{from} to {target}: {}", if *expected { "does not pass" } else { "passes" })
            })?;
        }
        ensure(said.split_whitespace().count() == targets.len(), || format!("{from} said {said}"))
    })
}

/// Replaces all policies by these; each is a name and a spec, of namespace `shop`.
pub(super) fn policies(cluster: &Cluster, policies: &[(&str, &str)]) -> Result<(), String> {
    cluster.kubectl(&["delete", "networkpolicies", "--namespace", "shop", "--all"])?;
    let policy = |(name, spec): &(&str, &str)| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: shop, name: {name}}}\nspec: {spec}\n"
        )
    };
    if policies.is_empty() {
        return Ok(());
    }
    cluster.apply(&policies.iter().map(policy).collect::<Vec<_>>().join("---\n"))
}

const DENY: (&str, &str) = ("deny", "{podSelector: {}}");

/// Deny all, allow from a label, allow from a namespace, and both at once.
pub(super) fn ingress(cluster: &Cluster) -> Result<(), String> {
    policies(cluster, &[])?;
    expect(cluster, "client", &[("web", true), ("db", true), ("other/guest", true)])?;
    policies(cluster, &[DENY])?;
    expect(cluster, "client", &[("web", false), ("db", false), ("other/guest", true)])?;
    expect(cluster, "db", &[("web", false), ("client", false)])?;
    expect(cluster, "other/guest", &[("web", false)])?;
    let client = (
        "client",
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}",
    );
    policies(cluster, &[DENY, client])?;
    expect(cluster, "client", &[("web", true), ("db", false)])?;
    expect(cluster, "db", &[("web", false)])?;
    let guests = "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db]}]},
      ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}}]}]}";
    policies(cluster, &[DENY, client, ("guests", guests)])?;
    expect(cluster, "other/guest", &[("web", true), ("db", false)])?;
    expect(cluster, "client", &[("web", true), ("db", false)])?;
    let nobody =
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}},
      namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}}]}]}";
    policies(cluster, &[DENY, ("nobody", nobody)])?;
    expect(cluster, "client", &[("web", false)])?;
    expect(cluster, "other/guest", &[("web", false)])
}

/// Deny what goes out, but DNS, and then one port of one pod.
pub(super) fn egress(cluster: &Cluster) -> Result<(), String> {
    let lookup = "import socket; socket.gethostbyname('kubernetes.default.svc.cluster.local')";
    let api = "import socket, os; socket.create_connection((os.environ['KUBERNETES_SERVICE_HOST'], 443), 1)";
    let fails = |script: &str| match python(cluster, "client", script, &[]) {
        Ok(_) => Err(format!("`{script}` succeeded")),
        Err(_) => Ok(()),
    };
    let deny = ("out", "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}");
    policies(cluster, &[])?;
    eventually(SOON, || python(cluster, "client", lookup, &[]))?;
    python(cluster, "client", api, &[])?;
    policies(cluster, &[deny])?;
    expect(cluster, "client", &[("web", false), ("other/guest", false)])?;
    expect(cluster, "web", &[("client", true), ("db", true)])?;
    // The API server is on the node of this pod.
    fails(api)?;
    fails(lookup)?;
    let dns = ("dns", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}, {port: 53}],
      to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]}]}");
    policies(cluster, &[deny, dns])?;
    eventually(SOON, || python(cluster, "client", lookup, &[]))?;
    expect(cluster, "client", &[("web", false)])?;
    let web = (
        "web",
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{ports: [{port: 8080}], to: [{podSelector: {matchLabels: {app: web}}}]}]}",
    );
    policies(cluster, &[deny, dns, web])?;
    expect(cluster, "client", &[("web", true), ("web:8081", false), ("db", false)])
}

/// A named port, a range, and addresses with an exception.
pub(super) fn ports_and_blocks(cluster: &Cluster) -> Result<(), String> {
    policies(cluster, &[("named", "{podSelector: {}, ingress: [{ports: [{port: http}]}]}")])?;
    expect(cluster, "client", &[("web:8080", true), ("web:8081", false), ("db:8081", true), ("db:8080", false)])?;
    policies(cluster, &[("range", "{podSelector: {}, ingress: [{ports: [{port: 8081, endPort: 8090}]}]}")])?;
    expect(cluster, "client", &[("web:8080", false), ("web:8081", true), ("web:8090", true)])?;
    // No SCTP in every kernel: its rule is there, and lets nothing else in.
    policies(cluster, &[("sctp", "{podSelector: {}, ingress: [{ports: [{port: 8080, protocol: SCTP}]}]}")])?;
    expect(cluster, "client", &[("web:8080", false)])?;
    let rules = format!("docker exec {}-worker nft list table ip coracle-policy", cluster.name);
    let rules = crate::harness::run::docker(&rules.split(' ').skip(1).collect::<Vec<_>>())?;
    contains(&rules, "meta l4proto sctp ct reply proto-src 8080 accept")?;
    let client = address(cluster, "client")?;
    let block = format!(
        "{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{from: [{{ipBlock: {{cidr: 10.244.0.0/16, except: [{client}/32]}}}}]}}]}}"
    );
    policies(cluster, &[("block", &block)])?;
    expect(cluster, "client", &[("web", false)])?;
    expect(cluster, "db", &[("web", true)])
}

/// From `kubectl apply` to the last packet that passes: less than a second, for new connections and for one from before.
pub(super) fn within_a_second(cluster: &Cluster) -> Result<(), String> {
    policies(cluster, &[("allow", "{podSelector: {}, ingress: [{}]}")])?;
    let target = address(cluster, "web")?;
    expect(cluster, "client", &[("web", true)])?;
    let arguments = ["exec", "--namespace", "shop", "client", "--", "python3", "-c", WATCH, &target];
    let watch = start(cluster.kubectl_command(&arguments), None)?;
    eventually(EVENTUALLY_TIMEOUT, || contains(&watch.said(), "watching"))?;
    cluster.kubectl(&[
        "patch",
        "networkpolicy",
        "allow",
        "--namespace=shop",
        "--type=json",
        "--patch",
        r#"[{"op":"remove","path":"/spec/ingress"}]"#,
    ])?;
    let changed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let said = watch.finish(Duration::from_secs(20))?.ok()?;
    for way in ["kept", "fresh"] {
        let line = said.lines().find_map(|line| line.strip_prefix(way)).ok_or_else(|| format!("it said {said}"))?;
        let last: f64 = line.trim().parse().map_err(|error| format!("{line}: {error}"))?;
        println!("        the last byte of a {way} connection passed {:.3} s after kubectl was done", last - changed);
        ensure(last > 0.0 && last - changed < 1.0, || format!("{way}: {:.3} s", last - changed))?;
    }
    Ok(())
}

/// Probes come from the node: a pod that no one may connect to stays ready and is not restarted.
pub(super) fn probes(cluster: &Cluster) -> Result<(), String> {
    policies(cluster, &[("deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}")])?;
    let probe = "{tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1}";
    let probes = format!(
        "      readinessProbe: {probe}\n      livenessProbe: {probe}\n      startupProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}\n"
    );
    cluster.apply(&pod("shop", "probed", &format!("{}-worker", cluster.name), 8080, SERVER, &probes))?;
    cluster.kubectl(&["wait", "--namespace=shop", "--for=condition=Ready", "--timeout=30s", "pod/probed"])?;
    expect(cluster, "other/guest", &[("probed", false)])?;
    std::thread::sleep(Duration::from_secs(4));
    let state = "--output=jsonpath={.status.containerStatuses[0].ready} {.status.containerStatuses[0].restartCount}";
    let state = cluster.kubectl(&["get", "pod", "probed", "--namespace=shop", state])?;
    ensure(state == "true 0", || format!("ready and restarts are {state}"))
}

/// A pod that connects from its first moment on gets nothing out where nothing may go out.
pub(super) fn from_the_first_packet(cluster: &Cluster) -> Result<(), String> {
    let target = format!("      env: [{{name: TARGET, value: {}}}]\n", address(cluster, "other/guest")?);
    let deny = "{podSelector: {matchExpressions: [{key: app, operator: In, values: [eager-1, eager-2, eager-3]}]}, policyTypes: [Egress]}";
    policies(cluster, &[("deny", deny)])?;
    let names = ["eager-1", "eager-2", "eager-3", "free"];
    let worker = format!("{}-worker", cluster.name);
    let pods = names.map(|name| pod("shop", name, &worker, 8080, EAGER, &target));
    cluster.apply(&pods.join("---\n"))?;
    for name in names {
        let said = eventually(EVENTUALLY_TIMEOUT, || {
            let said = cluster.kubectl(&["logs", "--namespace=shop", name])?;
            contains(&said, "passed").map(|()| said)
        })?;
        println!("        {name}: {}", said.trim());
        let passed = !said.contains(", 0 passed");
        ensure(passed == (name == "free"), || format!("{name}: {said}"))?;
    }
    cluster.kubectl(&["delete", "pod", "--namespace=shop", "eager-1", "eager-2", "eager-3", "free"]).map(drop)
}

/// While the agent is away the rules stay and no pod starts; the next agent finds everything as it was.
pub(super) fn without_the_agent(cluster: &Cluster) -> Result<(), String> {
    policies(cluster, &[DENY])?;
    expect(cluster, "client", &[("web", false)])?;
    let select = |selector: &str| {
        let patch = format!(r#"{{"spec":{{"template":{{"spec":{{"nodeSelector":{{"absent":{selector}}}}}}}}}}}"#);
        cluster.kubectl(&["patch", "daemonset/coracle-agent", "--namespace=kube-system", "--patch", &patch])
    };
    select(r#""yes""#)?;
    let agents = ["get", "pods", "--namespace=kube-system", "--selector=app=coracle-agent", "--output=name"];
    eventually(EVENTUALLY_TIMEOUT, || {
        let left = cluster.kubectl(&agents)?;
        ensure(left.trim().is_empty(), || format!("still there: {left}"))
    })?;
    expect(cluster, "client", &[("web", false), ("other/guest", true)])?;
    expect(cluster, "other/guest", &[("web", false)])?;
    cluster.apply(&pod("shop", "late", &format!("{}-worker", cluster.name), 8080, SERVER, ""))?;
    std::thread::sleep(Duration::from_secs(4));
    let phase = cluster.kubectl(&["get", "pod", "late", "--namespace=shop", "--output=jsonpath={.status.phase}"])?;
    ensure(phase == "Pending", || format!("without the agent a pod is {phase}"))?;
    select("null")?;
    cluster.kubectl(&["wait", "--namespace=shop", "--for=condition=Ready", "--timeout=60s", "pod/late"])?;
    expect(cluster, "client", &[("web", false), ("late", false), ("other/guest", true)])?;
    let agent = ["rollout", "status", "daemonset/coracle-agent", "--namespace=kube-system", "--timeout=60s"];
    cluster.kubectl(&agent).map(drop)
}

/// The agent stays small: 15 MB, with policies to watch pods for.
pub(super) fn memory(cluster: &Cluster) -> Result<(), String> {
    policies(cluster, &[DENY])?;
    expect(cluster, "client", &[("web", false)])?;
    let script = "for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" = coracle-agent ] && grep VmRSS $p/status; done; true";
    let said = cluster.in_node(script)?;
    let kilobytes = said.split_whitespace().nth(1).and_then(|word| word.parse::<u32>().ok());
    let kilobytes = kilobytes.ok_or_else(|| format!("no size of the agent in `{said}`"))?;
    println!("        the agent takes {kilobytes} KiB");
    ensure(kilobytes <= 15_000, || format!("the agent takes {kilobytes} KiB"))
}
