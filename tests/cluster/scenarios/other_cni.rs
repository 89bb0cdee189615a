//! A CNI plugin of someone else, and services without kube-proxy.

use serde_json::Value;

use super::basics::{is_true, name};
use crate::Group;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, answers};
use crate::harness::run::{contains, docker, ensure, eventually};

/// A control plane and a worker for a CNI plugin of someone else.
pub const OTHER_CNI: Group = Group {
    name: "other-cni",
    environment: &[],
    create,
    together: &[],
    scenarios: &[("nothing-yet", nothing_yet), ("installed", installed), ("works", works)],
};

const HEAD: &str = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n";

/// The reference plugins bridge and host-local, as a DaemonSet puts them in: a configuration, and routes to other nodes' pods.
const BRIDGE: &str = r#"apiVersion: v1
kind: ServiceAccount
metadata: {name: bridge-cni, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: bridge-cni}
rules: [{apiGroups: [""], resources: [nodes], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bridge-cni}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bridge-cni}
subjects: [{kind: ServiceAccount, name: bridge-cni, namespace: kube-system}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: bridge-cni, namespace: kube-system}
spec:
  selector: {matchLabels: {app: bridge-cni}}
  template:
    metadata: {labels: {app: bridge-cni}}
    spec:
      hostNetwork: true
      serviceAccountName: bridge-cni
      terminationGracePeriodSeconds: 0
      tolerations: [{operator: Exists}]
      containers:
        - name: bridge-cni
          # An image that each node has, with a shell, ip and kubectl.
          image: registry.k8s.io/kube-proxy:VERSION
          imagePullPolicy: IfNotPresent
          securityContext: {privileged: true}
          env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
          volumeMounts: [{name: cni, mountPath: /etc/cni/net.d}]
          command: [bash, -c]
          args:
            - |
              set -eu
              range=$(kubectl get node "$NODE" --output 'jsonpath={.spec.podCIDR}')
              cat >/etc/cni/net.d/10-bridge.conflist.new <<CONFIG
              {"cniVersion": "1.0.0", "name": "bridge", "plugins": [
                {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                 "ipam": {"type": "host-local", "ranges": [[{"subnet": "$range"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": true}}]}
              CONFIG
              mv /etc/cni/net.d/10-bridge.conflist.new /etc/cni/net.d/10-bridge.conflist
              while true; do
                kubectl get nodes --output 'jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}' |
                  while read -r name range address; do
                    [ "$name" = "$NODE" ] || ip route replace "$range" via "$address"
                  done
                sleep 2
              done
      volumes: [{name: cni, hostPath: {path: /etc/cni/net.d, type: DirectoryOrCreate}}]
"#;

/// What of coracle's own pod network a node has: configurations, masquerading, routes.
const LEFT: &str =
    "ls /etc/cni/net.d | grep conf; nft list tables | grep coracle-masquerade; ip route show proto 118; true";

pub(super) fn create(cluster: &Cluster) -> Result<(), String> {
    cluster.create(
        &format!("{HEAD}networking: {{disableDefaultCNI: true}}\nnodes: [{{role: control-plane}}, {{role: worker}}]\n"),
        &[],
    )
}

fn nodes(cluster: &Cluster) -> Result<Vec<Value>, String> {
    let nodes = cluster.kubectl_json(&["get", "nodes"])?;
    Ok(nodes["items"].as_array().cloned().unwrap_or_default())
}

/// Nothing of coracle's network is there: nodes wait, CoreDNS too, and `create` has said so.
pub(super) fn nothing_yet(cluster: &Cluster) -> Result<(), String> {
    contains(&cluster.said.borrow(), "nodes become Ready after you install one")?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let nodes = nodes(cluster)?;
        ensure(nodes.len() == 2, || "a node is not registered".to_owned())?;
        nodes
            .iter()
            .try_for_each(|node| contains(&node["status"]["conditions"].to_string(), "cni plugin not initialized"))
    })?;
    for node in nodes(cluster)? {
        ensure(!is_true(&node, "Ready"), || format!("{} is Ready without a network", name(&node)))?;
        let found = docker(&["exec", &name(&node), "bash", "-c", LEFT])?;
        ensure(found.trim().is_empty(), || format!("there is {found}"))?;
    }
    let agents = cluster.kubectl(&["get", "daemonsets", "--namespace=kube-system", "--output=name"])?;
    // It is there for addresses of services, and has left the network alone.
    contains(&agents, "coracle-agent")?;
    let waiting = cluster.kubectl(&[
        "get",
        "pods",
        "--namespace=kube-system",
        "--selector=k8s-app=kube-dns",
        "--output=jsonpath={.items[*].status.phase}",
    ])?;
    ensure(!waiting.contains("Running"), || format!("CoreDNS is {waiting}"))
}

/// The plugin comes in with one manifest, and everything becomes ready by itself.
pub(super) fn installed(cluster: &Cluster) -> Result<(), String> {
    let version = nodes(cluster)?[0]["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default().to_owned();
    cluster.apply(&BRIDGE.replace("VERSION", &version))?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    let dns = ["rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=90s"];
    cluster.kubectl(&dns).map(drop)
}

/// Pods have addresses of the plugin's and reach each other across nodes, services by name, and the host services.
pub(super) fn works(cluster: &Cluster) -> Result<(), String> {
    super::hello::deploy(cluster)?;
    let patch = r#"{"spec": {"template": {"spec": {"tolerations": [{"operator": "Exists"}], "topologySpreadConstraints": [{"maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "hello-world"}}}]}}}}"#;
    cluster.kubectl(&["patch", "deployment/hello-world", "--patch", patch])?;
    cluster.rolled_out("hello-world")?;
    let pods = cluster.kubectl_json(&["get", "pods", "--selector=app=hello-world"])?;
    let all = pods["items"].as_array().cloned().unwrap_or_default();
    let pods: Vec<_> = all.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect();
    ensure(pods.len() == 2 && pods[0]["spec"]["nodeName"] != pods[1]["spec"]["nodeName"], || {
        format!("{} pods are not on two nodes", pods.len())
    })?;
    for (from, to) in [(0, 1), (1, 0)] {
        let address = pods[to]["status"]["podIP"].as_str().unwrap_or_default();
        for url in [format!("http://{address}:8080/"), "http://hello-world/".to_owned()] {
            let script = format!("import urllib.request as r; print(r.urlopen('{url}', timeout=5).read().decode())");
            eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.python(&name(pods[from]), &script)?, "Hello, world!"))?;
        }
    }
    for node in nodes(cluster)? {
        contains(&docker(&["exec", &name(&node), "ip", "-brief", "address", "show", "cni0"])?, "10.244.")?;
    }
    answers(&cluster.coracle(&["url", "hello-world"])?, EVENTUALLY_TIMEOUT).map(drop)
}

pub(super) fn create_without_proxy(cluster: &Cluster) -> Result<(), String> {
    cluster.create(
        &format!("{HEAD}networking: {{kubeProxyMode: none}}\nnodes: [{{role: control-plane}}, {{role: worker}}]\n"),
        &[],
    )
}

/// Without kube-proxy pods reach each other by address, and no service answers until someone makes it.
pub(super) fn no_services(cluster: &Cluster) -> Result<(), String> {
    contains(&cluster.said.borrow(), "kube-proxy is not installed (kubeProxyMode: none)")?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    let sets = cluster.kubectl(&["get", "daemonsets", "--namespace=kube-system", "--output=name"])?;
    ensure(!sets.contains("kube-proxy"), || format!("these run: {sets}"))?;
    super::hello::deploy(cluster)?;
    let pods = cluster.kubectl_json(&["get", "pods", "--selector=app=hello-world"])?;
    let pod = &pods["items"][0];
    let address = pod["status"]["podIP"].as_str().unwrap_or_default();
    // From the other node, over the agent's route.
    let fetch = format!("curl --silent --fail --max-time 5 http://{address}:8080/");
    eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.in_node(&fetch)?, "Hello, world!"))?;
    let service = cluster.kubectl(&["get", "service", "hello-world", "--output=jsonpath={.spec.clusterIP}"])?;
    // Whoever is at this address outside of the cluster may answer, but not the pod.
    let elsewhere = cluster.in_node(&format!("curl --silent --max-time 2 http://{service}/; true"))?;
    ensure(!elsewhere.contains("Hello, world!"), || "the service answers".to_owned())?;
    // What a replacement does: the address leads to the pod.
    let rules = format!(
        "nft 'add table ip own; add chain ip own output {{ type nat hook output priority -100; }}; \
         add rule ip own output ip daddr {service} tcp dport 80 dnat to {address}:8080'"
    );
    cluster.in_node(&rules)?;
    contains(&cluster.in_node(&format!("curl --silent --max-time 5 http://{service}/"))?, "Hello, world!")
}
