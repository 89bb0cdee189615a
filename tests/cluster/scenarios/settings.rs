//! What a configuration says reaches the component it is for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, answers};
use crate::harness::run::{contains, ensure, eventually};

use super::resources;

const CONFIG: &str = "apiVersion: coracle.dev/v1alpha1
kind: Cluster
networking:
  kubeProxyMode: nftables
  podSubnet: 10.10.0.0/16
  serviceSubnet: 10.11.0.0/20
  nodeSubnet: NODES
  dnsSearch: [_sites.Corp.Example, lab.example.]
nodes:
  - role: control-plane
    labels: {example.com/disk: ssd}
    taints: [{key: example.com/odd, effect: PreferNoSchedule}]
    extraMounts: [{hostPath: ./shown, containerPath: /shown, readOnly: true}]
RESOURCESdurability: ephemeral
featureGates: {ContextualLogging: false}
kubelet:
  maxPods: 37
  evictionHard: {memory.available: 11Mi}
  imageGCHighThresholdPercent: 2
  imageGCLowThresholdPercent: 1
  imageMinimumGCAge: 1ns
  imageMaximumGCAge: 2ns
kubeProxy: {conntrack: {tcpCloseWaitTimeout: 31m0s}}
apiServer:
  v: 3
  enable-admission-plugins: [NodeRestriction, ExtendedResourceToleration]
  service-account-issuer: [https://kubernetes.default.svc.cluster.local, https://issuer.example.com]
controllerManager: {node-monitor-grace-period: 21s}
scheduler: {v: 4}
etcd: {quota-backend-bytes: 4294967296, listen-metrics-urls: 'http://0.0.0.0:2391'}
";

/// Proxies that are not there.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    ("HTTP_PROXY", "http://proxy.example:3128"),
    ("https_proxy", "http://proxy.example:3129"),
    ("NO_PROXY", "corp.example"),
];

pub(super) fn create(cluster: &Cluster) -> Result<(), String> {
    std::fs::create_dir_all(cluster.home.join("shown")).map_err(|error| error.to_string())?;
    cluster.write("shown/file", "of the host")?;
    let subnet = format!("{}.64/26", nodes());
    cluster.create(&CONFIG.replace("NODES", &subnet).replace("RESOURCES", resources::NODE), &[])
}

/// The start of the nodes' addresses: a small subnet of this program's own, with few addresses for services.
fn nodes() -> String {
    format!("10.213.{}", std::process::id() % 256)
}

/// The arguments of a process in the node, one in each line.
fn arguments(cluster: &Cluster, program: &str) -> Result<String, String> {
    // The programs of the control plane are one file with many names: argv 0 tells them apart.
    let script = format!(
        "for directory in /proc/[0-9]*; do first=$(tr '\\0' '\\n' <$directory/cmdline 2>/dev/null | sed -n 1p); \
         [[ ${{first##*/}} == {program} ]] && tr '\\0' '\\n' <$directory/cmdline; done; true"
    );
    let found = cluster.in_node(&script)?;
    ensure(!found.is_empty(), || format!("there is no process {program}"))?;
    Ok(found)
}

/// The kubelet itself says what it runs with.
pub(super) fn kubelet_patch(cluster: &Cluster) -> Result<(), String> {
    let path = format!("/api/v1/nodes/{}/proxy/configz", cluster.node());
    let config = crate::harness::cluster::json(&cluster.kubectl(&["get", "--raw", &path])?)?;
    let kubelet = &config["kubeletconfig"];
    ensure(kubelet["maxPods"] == 37, || format!("maxPods is {}", kubelet["maxPods"]))?;
    let eviction = &kubelet["evictionHard"];
    ensure(eviction["memory.available"] == "11Mi", || format!("evictionHard is {eviction}"))?;
    // Merged, not replaced.
    ensure(eviction["nodefs.available"] == "0%", || format!("evictionHard is {eviction}"))
}

/// A feature gate is set in every component.
pub(super) fn feature_gate(cluster: &Cluster) -> Result<(), String> {
    for component in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        contains(&arguments(cluster, component)?, "ContextualLogging=false")
            .map_err(|error| format!("{component}: {error}"))?;
    }
    contains(&cluster.in_node("cat /var/lib/kubelet/config.yaml")?, "ContextualLogging: false")?;
    let proxy = cluster.kubectl(&["get", "configmap", "kube-proxy", "--namespace=kube-system", "--output=yaml"])?;
    contains(&proxy, "ContextualLogging: false")
}

/// Flags of each component.
pub(super) fn flags(cluster: &Cluster) -> Result<(), String> {
    let api = arguments(cluster, "kube-apiserver")?;
    contains(&api, "--v=3")?;
    contains(&api, "--enable-admission-plugins=NodeRestriction,ExtendedResourceToleration")?;
    // This one is not joined: tokens would have an issuer with a comma.
    let issuers = api.lines().filter(|line| line.starts_with("--service-account-issuer="));
    let issuers: Vec<_> = issuers.filter_map(|line| line.split_once('=').map(|(_, issuer)| issuer)).collect();
    ensure(issuers == ["https://kubernetes.default.svc.cluster.local", "https://issuer.example.com"], || {
        format!("the issuers are {issuers:?}")
    })?;
    contains(&arguments(cluster, "kube-controller-manager")?, "--node-monitor-grace-period=21s")?;
    contains(&arguments(cluster, "kube-scheduler")?, "--v=4")?;
    contains(&arguments(cluster, "etcd")?, "--quota-backend-bytes=4294967296")
}

/// kube-proxy runs with nftables, with its patch; services answer by name.
pub(super) fn nftables(cluster: &Cluster) -> Result<(), String> {
    let map = cluster.kubectl(&["get", "configmap", "kube-proxy", "--namespace=kube-system", "--output=yaml"])?;
    contains(&map, "tcpCloseWaitTimeout: 31m0s")?;
    contains(&map, "mode: nftables")?;
    eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.in_node("nft list tables")?, "table ip kube-proxy"))?;
    let address = cluster.kubectl(&["get", "service", "kubernetes", "--output=jsonpath={.spec.clusterIP}"])?;
    ensure(address == "10.11.0.1", || format!("the service `kubernetes` has the address {address}"))?;
    super::hello::deploy(cluster)?;
    answers(&cluster.coracle(&["url", "hello-world"])?, EVENTUALLY_TIMEOUT)?;
    let script = "import urllib.request as r; print(r.urlopen('http://hello-world.default.svc.cluster.local', timeout=5).read())";
    eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.python("deployment/hello-world", script)?, "Hello, world!"))?;
    // Unlike iptables, nftables refuses what a service's address does not offer, without a time-out.
    let address = cluster.kubectl(&["get", "service", "hello-world", "--output=jsonpath={.spec.clusterIP}"])?;
    let script = format!(
        "import socket, time\nbegan = time.time()\ntry: socket.create_connection(('{address}', 81), 10)\n\
         except ConnectionRefusedError: print('refused at once:', time.time() - began < 2)"
    );
    contains(&cluster.python("deployment/hello-world", &script)?, "refused at once: True")?;
    let pods = cluster.kubectl(&["get", "pods", "--all-namespaces", "--output=jsonpath={.items[*].status.podIP}"])?;
    contains(&pods, "10.10.0.")
}

/// As many services as there are addresses get one. The next one is told why it has none, and gets the first that is free.
pub(super) fn exhausted_pool(cluster: &Cluster) -> Result<(), String> {
    // The second quarter of a /26 is a /28, of which neither the first nor the last address is given.
    const COUNT: usize = 14;
    super::hello::deploy(cluster)?;
    let line_of = |n: usize| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: pool-{n}, labels: {{pool: small}}}}\n\
             spec: {{type: LoadBalancer, allocateLoadBalancerNodePorts: false, selector: {{app: hello-world}}, ports: [{{port: 80, targetPort: 8080}}]}}\n---\n"
        )
    };
    cluster.apply(&(0..=COUNT).map(line_of).collect::<String>())?;
    let pool = eventually(EVENTUALLY_TIMEOUT, || {
        let pool = pool(cluster)?;
        let waiting = pool.values().filter(|address| address.is_empty()).count();
        ensure((pool.len(), waiting) == (COUNT + 1, 1), || format!("the addresses are {pool:?}"))?;
        Ok(pool)
    })?;
    let waiting = pool.iter().find(|(_, address)| address.is_empty()).map_or("", |(name, _)| name);
    let served: Vec<_> = pool.iter().filter(|(_, address)| !address.is_empty()).collect();
    let cause = format!("all addresses of {}.80/28 are in use", nodes());
    eventually(EVENTUALLY_TIMEOUT, || {
        let told = cluster.kubectl(&["describe", "service", waiting])?;
        contains(&told, "NoAddress").and_then(|()| contains(&told, &cause))
    })?;
    let url = cluster.coracle_output(&["url", waiting])?;
    ensure(url.code != 0, || url.told())?;
    contains(&url.stderr, &format!("kubectl describe service {waiting}"))?;
    // All of them answer, also with the rules of nftables.
    for (_, address) in &served {
        answers(&format!("http://{address}:80/"), EVENTUALLY_TIMEOUT)?;
    }
    let (old, address) = served[0];
    cluster.kubectl(&["delete", "service", old])?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let now = self::pool(cluster)?.remove(waiting).unwrap_or_default();
        ensure(now == *address, || format!("{waiting} has `{now}` and not {address}"))
    })?;
    answers(&format!("http://{address}:80/"), EVENTUALLY_TIMEOUT)?;
    cluster.kubectl(&["delete", "services", "--selector=pool=small"]).map(drop)
}

/// The services of the small pool with their addresses; an empty one where there is none.
fn pool(cluster: &Cluster) -> Result<BTreeMap<String, String>, String> {
    let services = cluster.kubectl_json(&["get", "services", "--selector=pool=small"])?;
    let address = |service: &Value| service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned);
    let services = services["items"].as_array().into_iter().flatten();
    Ok(services.map(|service| (super::basics::name(service), address(service).unwrap_or_default())).collect())
}

/// A directory of the host is in the node, read-only.
pub(super) fn mounts(cluster: &Cluster) -> Result<(), String> {
    contains(&cluster.in_node("cat /shown/file")?, "of the host")?;
    let write = cluster.in_node("echo x >/shown/file");
    ensure(write.is_err(), || "it can be written".to_owned())
}

/// Labels and taints are on the Node object.
pub(super) fn labels_and_taints(cluster: &Cluster) -> Result<(), String> {
    let node = cluster.kubectl_json(&["get", "node", &cluster.node()])?;
    ensure(node["metadata"]["labels"]["example.com/disk"] == "ssd", || {
        format!("labels: {}", node["metadata"]["labels"])
    })?;
    let taints = &node["spec"]["taints"];
    let own = &taints[0];
    ensure(own["key"] == "example.com/odd" && own["effect"] == "PreferNoSchedule", || format!("taints: {taints}"))
}

/// What must go through a proxy knows it, and what is the cluster's own is excluded.
pub(super) fn proxy(cluster: &Cluster) -> Result<(), String> {
    let node = cluster.node();
    let network = cluster.address()?.rsplit_once('.').map(|(start, _)| start.to_owned()).unwrap_or_default();
    for unit in ["containerd", "kubelet"] {
        let script = format!("tr '\\0' '\\n' </proc/$(systemctl show --property MainPID --value {unit})/environ");
        let environment = cluster.in_node(&script)?;
        let has = |part: &str| contains(&environment, part).map_err(|error| format!("{unit}: {error}"));
        for variable in ["HTTP_PROXY", "http_proxy"] {
            has(&format!("{variable}=http://proxy.example:3128"))?;
        }
        has("HTTPS_PROXY=http://proxy.example:3129")?;
        let none = environment.lines().find_map(|line| line.strip_prefix("NO_PROXY=")).unwrap_or_default();
        for part in
            ["corp.example", "localhost", "127.0.0.1", "10.10.0.0/16", "10.11.0.0/20", ".svc", ".cluster.local", &node]
        {
            ensure(none.split(',').any(|one| one == part), || format!("{unit}: `{part}` is not in NO_PROXY={none}"))?;
        }
        ensure(none.contains(&network), || format!("{unit}: the nodes' subnet is not in NO_PROXY={none}"))?;
    }
    // A pull goes to the proxy, which is not there: containerd's error names it.
    let pull = cluster.in_node("crictl pull registry.example/none:v1 2>&1; true")?;
    contains(&pull, "proxy.example")
}

pub(super) fn create_bare(cluster: &Cluster) -> Result<(), String> {
    std::fs::create_dir_all(cluster.home.join(".docker")).map_err(|error| error.to_string())?;
    cluster.write(
        ".docker/config.json",
        r#"{"proxies": {"default": {"httpsProxy": "http://client.example:3128", "noProxy": "corp.example"}}}"#,
    )?;
    let networking = "networking: {disableDefaultCNI: true, kubeProxyMode: none}";
    let config =
        format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{networking}\nnodes: [{{role: control-plane}}]\n");
    cluster.create(&config, &[])
}

/// Without proxy variables in the environment the nodes get what the Docker client gives to containers.
pub(super) fn client_proxy(cluster: &Cluster) -> Result<(), String> {
    contains(&cluster.said.borrow(), "The nodes get the proxy settings in ")?;
    let script = "tr '\\0' '\\n' </proc/$(systemctl show --property MainPID --value containerd)/environ";
    let environment = cluster.in_node(script)?;
    contains(&environment, "HTTPS_PROXY=http://client.example:3128\n")?;
    contains(&environment, "NO_PROXY=corp.example,localhost,")
}

/// `create` says what is missing; the API answers, and what was left out is not there.
pub(super) fn bare(cluster: &Cluster) -> Result<(), String> {
    {
        let said = cluster.said.borrow();
        contains(&said, "no CNI plugin is installed (disableDefaultCNI)")?;
        contains(&said, "kube-proxy is not installed (kubeProxyMode: none)")?;
    }
    contains(&cluster.kubectl(&["get", "--raw=/readyz"])?, "ok")?;
    let sets = cluster.kubectl(&["get", "daemonsets", "--all-namespaces", "--output=name"])?;
    ensure(sets.trim() == "daemonset.apps/coracle-agent", || format!("there are {sets}"))?;
    let script = "ls /etc/cni/net.d 2>/dev/null; true";
    ensure(cluster.in_node(script)?.trim().is_empty(), || "there is a CNI configuration".to_owned())?;
    let status = cluster.coracle_output(&["status"])?;
    ensure(status.code == 1, || status.told())?;
    contains(&status.stdout, "cni")?;
    // Any plugin brings a file like this one; the node is Ready then, and a pod on its network runs.
    let file = r#"{"cniVersion":"1.0.0","name":"own","plugins":[{"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.0.0/24"}]]}}]}"#;
    cluster.in_node(&format!("mkdir -p /etc/cni/net.d && echo '{file}' >/etc/cni/net.d/10-own.conflist"))?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    // Without kube-proxy nothing has a service address, but a pod's own one answers.
    super::hello::build()?;
    cluster.coracle(&["load", "docker-image", super::hello::IMAGE])?;
    cluster.kubectl(&["run", "alone", "--image=hello-world:latest", "--image-pull-policy=IfNotPresent"])?;
    cluster.kubectl(&["wait", "pod/alone", "--for=condition=Ready", "--timeout=100s"])?;
    contains(&cluster.port_forward("pod/alone", 8080, "/")?, "Hello, world!")
}
