//! Clusters of several nodes: pods of different nodes, the outside, and several control planes.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::basics::{is_true, name, running_pods};

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, address_of, answers};
use crate::harness::run::{contains, docker, ensure, eventually};

pub(super) fn create_three(cluster: &Cluster) -> Result<(), String> {
    let config = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes: [{role: control-plane}, {role: worker}, {role: worker}]\n";
    cluster.create(config, &["--timings"])?;
    tell_total(cluster);
    Ok(())
}

fn tell_total(cluster: &Cluster) {
    for line in cluster.said.borrow().lines().filter(|line| line.ends_with("total")) {
        println!("        {}", line.trim());
    }
}

/// All nodes are Ready at once, and everything else soon.
fn ready(cluster: &Cluster, count: usize) -> Result<(), String> {
    let nodes = cluster.kubectl_json(&["get", "nodes"])?;
    let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
    let waiting: Vec<_> = nodes.iter().filter(|node| !is_true(node, "Ready")).map(name).collect();
    ensure(nodes.len() == count, || format!("there are {} nodes", nodes.len()))?;
    ensure(waiting.is_empty(), || format!("not Ready: {}", waiting.join(", ")))?;
    cluster.coracle(&["status"])?;
    running_pods(cluster, 6 + 2 * count)
}

pub(super) fn three_ready(cluster: &Cluster) -> Result<(), String> {
    ready(cluster, 3)?;
    let node = cluster.kubectl_json(&["get", "node", &cluster.node()])?;
    let taint = &node["spec"]["taints"][0]["key"];
    ensure(taint == "node-role.kubernetes.io/control-plane", || format!("the control plane has the taint {taint}"))
}

/// Six pods, spread over the workers, and the Service `hello`.
const HELLO: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: 2
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - {labelSelector: {matchLabels: {app: hello}}, topologyKey: kubernetes.io/hostname}
      containers:
        - name: hello
          image: hello-world:latest
          imagePullPolicy: IfNotPresent
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
          env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  type: NodePort
  selector: {app: hello}
  ports: [{port: 80, targetPort: 8080, nodePort: 30081}]
";

/// One pod of the sample on each worker.
pub(super) fn spread_hello(cluster: &Cluster) -> Result<(), String> {
    super::hello::build()?;
    cluster.coracle(&["load", "docker-image", super::hello::IMAGE])?;
    cluster.apply(HELLO)?;
    cluster.rolled_out("hello")?;
    let pods = pods(cluster)?;
    let node = |pod: &Value| pod["spec"]["nodeName"].clone();
    ensure(pods.len() == 2 && node(&pods[0]) != node(&pods[1]), || "the pods are not on two nodes".to_owned())
}

fn pods(cluster: &Cluster) -> Result<Vec<Value>, String> {
    let pods = cluster.kubectl_json(&["get", "pods", "--selector=app=hello"])?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    Ok(pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect())
}

/// Fetches from inside a pod.
fn from_pod(cluster: &Cluster, pod: &str, url: &str) -> Result<String, String> {
    let script = format!("import urllib.request; print(urllib.request.urlopen('{url}', timeout=5).read().decode())");
    cluster.python(pod, &script)
}

/// Each pod reaches the other one, on the other node, at its own address.
pub(super) fn pod_address(cluster: &Cluster) -> Result<(), String> {
    let pods = pods(cluster)?;
    for (from, to) in [(0, 1), (1, 0)] {
        let address = pods[to]["status"]["podIP"].as_str().unwrap_or_default();
        let page = eventually(EVENTUALLY_TIMEOUT, || {
            from_pod(cluster, &name(&pods[from]), &format!("http://{address}:8080/"))
        })?;
        contains(&page, &name(&pods[to]))?;
        // No address is changed on the way from pod to pod.
        let script =
            format!("import socket; s = socket.create_connection(('{address}', 8080), 5); print(s.getsockname()[0])");
        contains(&cluster.python(&name(&pods[from]), &script)?, pods[from]["status"]["podIP"].as_str().unwrap_or("?"))?;
    }
    Ok(())
}

/// From one pod both answer, so one of them is on another node.
fn both_answer(cluster: &Cluster, url: &str) -> Result<(), String> {
    let pods = pods(cluster)?;
    for from in &pods {
        for to in &pods {
            eventually(EVENTUALLY_TIMEOUT, || contains(&from_pod(cluster, &name(from), url)?, &name(to)))?;
        }
    }
    Ok(())
}

pub(super) fn service_address(cluster: &Cluster) -> Result<(), String> {
    let address = cluster.kubectl(&["get", "service", "hello", "--output=jsonpath={.spec.clusterIP}"])?;
    both_answer(cluster, &format!("http://{address}/"))
}

pub(super) fn dns_name(cluster: &Cluster) -> Result<(), String> {
    for host in ["hello.default.svc.cluster.local", "hello"] {
        both_answer(cluster, &format!("http://{host}/"))?;
    }
    Ok(())
}

/// Names outside of the cluster are asked from the engine, through CoreDNS: here that of another container.
pub(super) fn outside_name(cluster: &Cluster) -> Result<(), String> {
    let worker = format!("{}-worker2", cluster.name);
    let address = address_of(&worker)?;
    for pod in pods(cluster)? {
        let script = format!("import socket; print(socket.gethostbyname('{worker}'))");
        eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.python(&name(&pod), &script)?, &address))?;
    }
    Ok(())
}

/// The NodePort answers at every node, and at what `coracle url` prints.
pub(super) fn node_ports(cluster: &Cluster) -> Result<(), String> {
    for node in ["control-plane", "worker", "worker2"] {
        let address = address_of(&format!("{}-{node}", cluster.name))?;
        answers(&format!("http://{address}:30081/"), EVENTUALLY_TIMEOUT).map_err(|error| format!("{node}: {error}"))?;
    }
    answers(&cluster.coracle(&["url", "hello"])?, EVENTUALLY_TIMEOUT).map(drop)
}

/// A server outside of the cluster, on the host, sees the address of the pod's node.
pub(super) fn masquerading(cluster: &Cluster) -> Result<(), String> {
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let gateway = docker(&["network", "inspect", "--format", format, &format!("coracle-{}", cluster.name)])?;
    let server = TcpListener::bind((gateway.trim(), 0)).map_err(|error| format!("{}: {error}", gateway.trim()))?;
    server.set_nonblocking(true).map_err(|error| error.to_string())?;
    let port = server.local_addr().map_err(|error| error.to_string())?.port();
    for pod in pods(cluster)? {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        let script = format!("import socket; socket.create_connection(('{}', {port}), 5)", gateway.trim());
        cluster.python(&name(&pod), &script)?;
        let (_, seen) = eventually(Duration::from_secs(10), || server.accept().map_err(|error| error.to_string()))?;
        let expected = address_of(&node)?;
        ensure(seen.ip().to_string() == expected, || {
            format!("the host sees {} instead of {node}'s {expected}", seen.ip())
        })?;
    }
    Ok(())
}

/// A worker that restarts comes back with its pods reachable from the other one.
pub(super) fn restart_worker(cluster: &Cluster) -> Result<(), String> {
    let worker = format!("{}-worker", cluster.name);
    let began = Instant::now();
    docker(&["restart", &worker])?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let pods = pods(cluster)?;
        ensure(pods.len() == 2 && pods.iter().all(|pod| is_true(pod, "Ready")), || "a pod is not ready".to_owned())?;
        let restarted = pods.iter().find(|pod| pod["spec"]["nodeName"] == *worker).ok_or("no pod is on the worker")?;
        let count = restarted["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default();
        ensure(count >= 1, || "its pod was not restarted yet".to_owned())
    })?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    println!("        worker restart: pods ready {:.1} s after `docker restart` began", began.elapsed().as_secs_f64());
    pod_address(cluster)?;
    dns_name(cluster)?;
    masquerading(cluster)
}

pub(super) fn create_planes(cluster: &Cluster) -> Result<(), String> {
    let config = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes: [{role: control-plane}, {role: control-plane}, {role: control-plane}]\n";
    cluster.create(config, &["--timings"])?;
    tell_total(cluster);
    Ok(())
}

pub(super) fn planes_ready(cluster: &Cluster) -> Result<(), String> {
    ready(cluster, 3)?;
    // Every etcd is a member of one cluster.
    let script = "etcdctl --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt \
        --key=/etc/kubernetes/pki/etcd/server.key member list";
    let pod = format!("etcd-{}", cluster.node());
    // The kubelet tells the API of the pods that it runs by itself a moment after the node is Ready.
    let members = eventually(EVENTUALLY_TIMEOUT, || {
        cluster.kubectl(&["exec", "--namespace=kube-system", &pod, "--", "sh", "-c", script])
    })?;
    ensure(members.lines().count() == 3, || format!("etcd has these members: {members}"))
}

/// The host reaches the API through HAProxy, which stops at once.
pub(super) fn balancer(cluster: &Cluster) -> Result<(), String> {
    let balancer = format!("{}-load-balancer", cluster.name);
    contains(&docker(&["port", &balancer, "6443"])?, "127.0.0.1:")?;
    let nothing = docker(&["port", &cluster.node()])?;
    ensure(nothing.trim().is_empty(), || format!("the control plane publishes {nothing}"))?;
    let began = Instant::now();
    docker(&["stop", "--time=8", &balancer])?;
    ensure(began.elapsed() < Duration::from_secs(5), || format!("the balancer stopped after {:?}", began.elapsed()))?;
    docker(&["start", &balancer])?;
    cluster.ready(EVENTUALLY_TIMEOUT)
}

pub(super) fn delete(cluster: &Cluster) -> Result<(), String> {
    super::lifecycle::gone(cluster)
}
