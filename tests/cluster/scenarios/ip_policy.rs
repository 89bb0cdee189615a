//! What a family may not change: policies, clients' addresses behind a load balancer, and how soon a pod runs.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::ip_family::{addresses, families_of, pods, service_addresses, url};
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, fetch};
use crate::harness::run::{LIMIT, contains, docker, ensure, eventually, start};

/// How long the quickest of three pods may take. The aim is 1.5 s on an idle machine.
const START: Duration = Duration::from_millis(2500);
/// How long a pod may wait until its first packet is answered: less than the kernel's first repetition, which is after 1 s.
const FIRST_PACKET: f64 = 0.9;

/// Name spaces and names of those who ask; each is labelled with its name.
const CLIENTS: [(&str, &str); 3] = [("default", "caller"), ("default", "stranger"), ("friends", "friend")];

fn client((namespace, name): (&str, &str)) -> String {
    pod(namespace, name, "import time; time.sleep(3600)")
}

fn pod(namespace: &str, name: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{role: {name}}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n    - name: {name}\n      image: hello-world:latest\n      \
         imagePullPolicy: IfNotPresent\n      command: [python3, -c]\n      args: [\"{script}\"]\n---\n"
    )
}

/// A policy for the pods of `who`; `from` is a list of peers.
fn policy(name: &str, from: &str) -> String {
    let ingress = if from.is_empty() { String::new() } else { format!(", ingress: [{{from: [{from}]}}]") };
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{podSelector: {{matchLabels: {{app: who}}}}, policyTypes: [Ingress]{ingress}}}\n"
    )
}

/// What `who` may be asked at: each address of its pods, and of its Service.
fn targets(cluster: &Cluster) -> Result<Vec<(IpAddr, u16)>, String> {
    let pods = pods(cluster)?.into_iter().flat_map(|(_, _, addresses)| addresses).map(|address| (address, 8080));
    let service = service_addresses(cluster)?.into_iter().map(|address| (address, 80));
    Ok(pods.chain(service).collect())
}

/// Which clients get through to all targets (true) or none (false), within a moment.
fn expect(cluster: &Cluster, what: &str, passes: [bool; 3]) -> Result<(), String> {
    let targets: Vec<String> = targets(cluster)?.iter().map(|(ip, port)| format!("('{ip}', {port})")).collect();
    let script = format!(
        "import socket\nfrom concurrent.futures import ThreadPoolExecutor\ndef passes(target):\n  \
         try: return not socket.create_connection(target, 1).close()\n  except OSError: return False\n\
         targets = [{}]\nresults = ThreadPoolExecutor(len(targets)).map(passes, targets)\n\
         print(sorted(set(results)))",
        targets.join(", ")
    );
    let expected = passes.map(|passes| if passes { "[True]" } else { "[False]" });
    eventually(Duration::from_secs(15), || {
        let ask = |(namespace, name): (&str, &str)| {
            let arguments = ["exec", "--namespace", namespace, name, "--", "python3", "-c", &script];
            start(cluster.kubectl_command(&arguments), None)
        };
        let asked = CLIENTS.map(ask);
        for ((asked, (_, name)), expected) in asked.into_iter().zip(CLIENTS).zip(expected) {
            let found = asked?.finish(LIMIT)?.ok()?;
            ensure(found.trim() == expected, || format!("{what}: {name} has {found} instead of {expected}"))?;
        }
        Ok(())
    })
}

/// The host's address in the cluster's network, of the same family as this one.
fn host(cluster: &Cluster, like: IpAddr) -> Result<IpAddr, String> {
    let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
    let gateways = docker(&["network", "inspect", "--format", format, &format!("coracle-{}", cluster.name)])?;
    let mut gateways = gateways.split_whitespace().filter_map(|text| text.parse::<IpAddr>().ok());
    gateways.find(|gateway| gateway.is_ipv4() == like.is_ipv4()).ok_or_else(|| "the network has no gateway".to_owned())
}

/// The addresses of the Service `near`.
fn near(cluster: &Cluster) -> Result<Vec<IpAddr>, String> {
    eventually(EVENTUALLY_TIMEOUT, || {
        let service = cluster.kubectl_json(&["get", "service", "near"])?;
        let found = addresses(&service["status"]["loadBalancer"]["ingress"], |one| one["ip"].as_str())?;
        let families = families_of(cluster).len();
        ensure(found.len() == families, || format!("it has {found:?} and not {families} addresses"))?;
        Ok(found)
    })
}

/// `externalTrafficPolicy: Local`: the node that has the address asks its own pod, which sees the client's address.
pub(super) fn local(cluster: &Cluster) -> Result<(), String> {
    let families = cluster.kubectl(&["get", "service", "who", "--output=jsonpath={.spec.ipFamilyPolicy}"])?;
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: near}}\nspec: {{type: LoadBalancer, externalTrafficPolicy: Local, \
         ipFamilyPolicy: {families}, selector: {{app: who}}, ports: [{{port: 80, targetPort: 8080}}]}}\n"
    ))?;
    for address in near(cluster)? {
        let page = eventually(EVENTUALLY_TIMEOUT, || fetch(&url(&address, 80)))?;
        contains(&page, &format!("hello {}\n", host(cluster, address)?))?;
        let pods = pods(cluster)?;
        let (_, node, _) = pods.iter().find(|(pod, ..)| page.contains(pod)).ok_or_else(|| format!("{page}?"))?;
        let links = docker(&["exec", node, "ip", "-oneline", "address", "show"])?;
        contains(&links, &format!(" {address}/")).map_err(|error| format!("{node} answered without it: {error}"))?;
    }
    Ok(())
}

/// The usual recipes hold for each family: deny all, allow from a label, from a namespace, and from the host's address.
pub(super) fn policies(cluster: &Cluster) -> Result<(), String> {
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: friends}}\n---\n{}",
        CLIENTS.map(client).concat()
    ))?;
    for (namespace, name) in CLIENTS {
        cluster.kubectl(&["wait", "--namespace", namespace, "pod", name, "--for=condition=Ready", "--timeout=60s"])?;
    }
    let balanced = near(cluster)?;
    let host_passes = |passes: bool| {
        eventually(Duration::from_secs(15), || {
            for address in &balanced {
                let open = TcpStream::connect_timeout(&SocketAddr::new(*address, 80), Duration::from_secs(1)).is_ok();
                ensure(open == passes, || format!("the host gets through to {address}: {open}"))?;
            }
            Ok(())
        })
    };
    expect(cluster, "no policy", [true, true, true])?;
    host_passes(true)?;
    cluster.apply(&policy("deny", ""))?;
    expect(cluster, "deny all", [false, false, false])?;
    host_passes(false)?;
    cluster.apply(&policy("label", "{podSelector: {matchLabels: {role: caller}}}"))?;
    expect(cluster, "allow from a label", [true, false, false])?;
    let namespace = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: friends}}}";
    cluster.apply(&policy("namespace", namespace))?;
    expect(cluster, "allow from a namespace", [true, false, true])?;
    host_passes(false)?;
    let mut blocks = Vec::new();
    for address in &balanced {
        let host = host(cluster, *address)?;
        blocks.push(format!("{{ipBlock: {{cidr: \"{host}/{}\"}}}}", if host.is_ipv4() { 32 } else { 128 }));
    }
    cluster.apply(&policy("host", &blocks.join(", ")))?;
    host_passes(true)?;
    expect(cluster, "allow from the host", [true, false, true])?;
    cluster.kubectl(&["delete", "networkpolicy", "--all"])?;
    expect(cluster, "no policy any more", [true, true, true])?;
    cluster
        .kubectl(&["delete", "namespace/friends", "service/near", "pod/caller", "pod/stranger", "--wait=false"])
        .map(drop)
}

/// A pod runs as soon as one with IPv4 only, and its first packet is answered at once: neither it nor its node waits until
/// the kernel has looked for a second one with the same address.
pub(super) fn pod_start(cluster: &Cluster) -> Result<(), String> {
    let all = pods(cluster)?;
    let target = all.first().and_then(|(_, _, addresses)| addresses.last()).ok_or("there is no pod")?;
    let script = format!(
        "import socket, time; began = time.time(); socket.create_connection(('{target}', 8080), 10); \
         print(time.time() - began, flush=True); time.sleep(600)"
    );
    let columns = "--output=custom-columns=NAME:.metadata.name,PHASE:.status.phase";
    let watch = start(cluster.kubectl_command(&["get", "pods", "--watch", "--no-headers", columns]), None)?;
    let mut quickest = Duration::MAX;
    for name in ["quick-1", "quick-2", "quick-3"] {
        let began = Instant::now();
        cluster.apply(&pod("default", name, &script))?;
        eventually(EVENTUALLY_TIMEOUT, || {
            let runs = |line: &str| line.starts_with(name) && line.ends_with("Running");
            ensure(watch.said().lines().any(runs), || format!("{name} does not run: {}", watch.said()))
        })?;
        quickest = quickest.min(began.elapsed());
        println!("        {name}: runs after {:.2?}", began.elapsed());
        let waited: f64 = eventually(EVENTUALLY_TIMEOUT, || {
            let said = cluster.kubectl(&["logs", name])?;
            said.trim().parse().map_err(|_| format!("{name} said `{said}`"))
        })?;
        ensure(waited < FIRST_PACKET, || format!("{name} waited {waited} s for the first answer of {target}"))?;
        let detects = cluster.python(name, "print(open('/proc/sys/net/ipv6/conf/eth0/accept_dad').read())")?;
        ensure(detects.trim() == "0", || format!("{name} looks for others with its address: {detects}"))?;
        cluster.kubectl(&["delete", "pod", name, "--wait=false"])?;
    }
    ensure(quickest < START, || format!("the quickest of three pods took {quickest:?}"))
}
