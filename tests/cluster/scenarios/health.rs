//! What does not work is named, and what is not known is neither well nor ill.

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, address_of, fetch};
use crate::harness::run::{contains, docker, ensure};

/// `status` fails, and says these parts.
fn ill(cluster: &Cluster, parts: &[&str]) -> Result<(), String> {
    let status = cluster.coracle_output(&["status"])?;
    ensure(status.code == 1, || status.told())?;
    parts.iter().try_for_each(|part| contains(&status.stdout, part))
}

/// Every component of every node counts, and the load balancer is to blame only for itself.
pub(super) fn every_component(cluster: &Cluster) -> Result<(), String> {
    let (third, balancer) = (format!("{}3", cluster.node()), format!("{}-load-balancer", cluster.name));
    let manifest = "/etc/kubernetes/manifests/kube-scheduler.yaml";
    docker(&["exec", &third, "mv", manifest, "/root"])?;
    let said = ill(cluster, &[&format!("{third}   control-plane   running     no      kube-scheduler is missing")]);
    docker(&["exec", &third, "mv", "/root/kube-scheduler.yaml", manifest])?;
    said?;
    docker(&["exec", &third, "systemctl", "stop", "kubelet"])?;
    let said = ill(cluster, &["the kubelet does not run: its unit is inactive"]);
    docker(&["exec", &third, "systemctl", "start", "kubelet"])?;
    said?;
    docker(&["pause", &balancer])?;
    let line = format!("its load balancer `{balancer}` is paused");
    let said = ill(cluster, &[&line, "its container is paused"]).and_then(|()| {
        let status: serde_json::Value = serde_json::from_str(&cluster.coracle_output(&["status", "-o=json"])?.stdout)
            .map_err(|error| error.to_string())?;
        let (node, ready) = (&status["nodes"][0]["ready"], &status["balancer"]["ready"]);
        ensure(node.is_null() && *ready == false, || format!("it says {status}"))
    });
    docker(&["unpause", &balancer])?;
    said?;
    let listed = cluster.coracle(&["get", "nodes"])?;
    ensure(listed.lines().any(|line| line.starts_with(&balancer)), || format!("the balancer is not listed: {listed}"))?;
    cluster.ready(EVENTUALLY_TIMEOUT)
}

/// A Service has no URL, and these are parts of the reason.
fn why_none(cluster: &Cluster, name: &str, parts: &[&str]) -> Result<(), String> {
    let output = cluster.coracle_output(&["url", name])?;
    ensure(output.code != 0 && output.stdout.is_empty(), || output.told())?;
    parts.iter().try_for_each(|part| contains(&output.stderr, part))
}

/// A URL answers, or there is a reason why there is none. A pod of `echo` is on each worker, and none on the first node.
pub(super) fn urls(cluster: &Cluster) -> Result<(), String> {
    let spec = |name: &str, spec: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
    };
    let ports = "ports: [{port: 80, targetPort: 8080}]";
    let near = format!("type: NodePort, externalTrafficPolicy: Local, selector: {{app: echo}}, {ports}");
    let manifests = [
        spec("u-near", &near),
        spec("u-nobody", &format!("type: NodePort, selector: {{app: nobody}}, {ports}")),
        spec("u-headless", &format!("clusterIP: None, selector: {{app: echo}}, {ports}")),
        spec("u-alias", "type: ExternalName, externalName: a.example"),
    ];
    cluster.apply(&manifests.concat())?;
    let url = cluster.coracle(&["url", "u-near", "--wait=60s"])?;
    fetch(url.trim())?;
    let first = address_of(&cluster.node())?;
    ensure(!url.contains(&format!("//{first}:")), || format!("{url} is of a node without a pod"))?;
    why_none(cluster, "u-nobody", &["error[not-ready]", "no pod has the labels `app=nobody`", "--wait"])?;
    why_none(
        cluster,
        "u-headless",
        &["it is headless", "kubectl port-forward --namespace default service/u-headless"],
    )?;
    why_none(cluster, "u-alias", &["ExternalName", "`a.example`"])?;
    why_none(cluster, "u-none", &["error[not-found]", "does not exist in namespace `default`"])?;
    let names = ["u-near", "u-nobody", "u-headless", "u-alias"];
    cluster.kubectl(&[&["delete", "service"][..], &names].concat()).map(drop)
}
