//! What users do beside coracle, or had before it: it is told or refused, and what is theirs stays.

use std::time::Duration;

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{contains, docker, ensure, eventually, run, start};

use super::failures::told;

/// An entry that has the name of a cluster of coracle and belongs to someone else.
fn foreign_entry(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: coracle-{name}\n  cluster: {{server: https://prod.example:6443}}\n\
         contexts:\n- name: coracle-{name}\n  context: {{cluster: coracle-{name}, user: coracle-{name}}}\n\
         users:\n- name: coracle-{name}\n  user: {{token: secret}}\ncurrent-context: coracle-{name}\n"
    )
}

/// `create` does not overwrite such an entry, and `delete` of a cluster that is not there does not remove it.
pub(super) fn entry_of_others(cluster: &Cluster) -> Result<(), String> {
    let text = foreign_entry(&cluster.name);
    let path = cluster.write("of-others", &text)?;
    let output = cluster.coracle_output(&["create", "cluster", "--kubeconfig", &path])?;
    told(&output, "kubeconfig-invalid", output.code, &["that coracle did not make", "its user has `token`"])?;
    ensure(output.code != 0, || output.told())?;
    let deleted = cluster.coracle_output(&["delete", "cluster", "--kubeconfig", &path])?;
    ensure(deleted.code == 0, || deleted.told())?;
    contains(&deleted.stderr, "stays, because coracle did not make it")?;
    let now = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    ensure(now == text, || format!("the entry was changed: {now}"))?;
    ensure(docker(&["ps", "--all", "--quiet", "--filter", &format!("name={}", cluster.name)])?.is_empty(), || {
        "something was created".to_owned()
    })
}

/// A pipe that no one reads is no kubeconfig, and nothing waits for it.
pub(super) fn pipe_as_kubeconfig(cluster: &Cluster) -> Result<(), String> {
    let pipe = cluster.home.join("pipe");
    let mut make = std::process::Command::new("mkfifo");
    make.arg(&pipe);
    run(make, None, EVENTUALLY_TIMEOUT)?.ok()?;
    let path = pipe.display().to_string();
    let create = cluster.command(&["create", "cluster", "--kubeconfig", &path]);
    let output = run(create, None, Duration::from_secs(30))?;
    told(&output, "file-failed", 1, &["a pipe without a reader"])
}

/// What is wrong with the text, the host's paths, the fields of the kubelet and its flags, and the images, in one message.
pub(super) fn all_mistakes(cluster: &Cluster) -> Result<(), String> {
    let text = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodez: []\nkubelet: {maxPodz: 1}\nimages: [t-none:1]\n\
                nodes:\n- role: control-plane\n  kubeletFlags: {node-labelz: a=b}\n  \
                extraMounts: [{hostPath: /nonesuch, containerPath: /x}]\n";
    let path = cluster.write("all.yaml", text)?;
    for (path, count) in
        [(path, "5 problems"), (cluster.write("rest.yaml", &text.replace("nodez: []\n", ""))?, "4 problems")]
    {
        let output = cluster.coracle_output(&["create", "cluster", "--dry-run", "--config", &path])?;
        let parts = [count, "did you mean `maxPods`?", "did you mean `node-labels`?", "/nonesuch", "t-none:1"];
        ensure(output.code == 2, || output.told())?;
        for part in parts {
            contains(&output.stderr, part)?;
        }
    }
    Ok(())
}

/// A `create` whose nodes someone deletes ends at once, and not with `--wait`.
pub(super) fn deleted_meanwhile(cluster: &Cluster) -> Result<(), String> {
    let running = start(cluster.command(&["create", "cluster"]), None)?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.in_node("pgrep kubelet"))?;
    cluster.coracle(&["delete", "cluster"])?;
    let output = running.finish(Duration::from_secs(60))?;
    ensure(output.code != 0, || output.told())?;
    contains(&output.stderr, "the container of the node is gone")
}

/// A node whose container was renamed, or connected to its network again with another address, is told with what mends it.
pub(super) fn changed_container(cluster: &Cluster) -> Result<(), String> {
    let (node, other) = (format!("{}-worker", cluster.name), format!("{}-renamed", cluster.name));
    docker(&["rename", &node, &other])?;
    let told = cluster.coracle_output(&["status"])?;
    let stop = cluster.coracle_output(&["node", "stop", &other])?;
    let add = cluster.coracle_output(&["node", "add"])?;
    docker(&["rename", &other, &node])?;
    contains(&told.stdout, &format!("the container of node `{node}` is called `{other}` now"))?;
    ensure(told.code == 1 && stop.code != 0 && add.code != 0, || format!("{} {}", stop.told(), add.told()))?;
    for output in [stop, add] {
        contains(&output.stderr, &format!("docker rename {other} {node}"))?;
    }
    let network = format!("coracle-{}", cluster.name);
    docker(&["network", "disconnect", &network, &node])?;
    docker(&["network", "connect", &network, &node])?;
    let status = cluster.coracle_output(&["status"])?;
    ensure(status.code == 1, || status.told())?;
    contains(&status.stdout, &format!("`coracle node restart {node}` gives it its address back"))?;
    cluster.coracle(&["node", "restart", &node])?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"]))?;
    cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/healthz")]).map(drop)
}

/// An add-on does not take over an object of the user's, and does not delete it.
pub(super) fn object_of_an_add_on(cluster: &Cluster) -> Result<(), String> {
    let account = ["serviceaccount", "metrics-server", "--namespace=kube-system"];
    cluster.kubectl(&[&["create"], &account[..]].concat())?;
    let output = cluster.coracle_output(&["addon", "enable", "metrics-server"])?;
    told(&output, "addon-in-use", 3, &["that coracle did not make", "metrics-server"])?;
    contains(&cluster.coracle(&["addon", "disable", "metrics-server"])?, "")?;
    let labels = cluster.kubectl(&[&["get"], &account[..], &["--output=jsonpath={.metadata.labels}"]].concat())?;
    ensure(labels.is_empty(), || format!("the user's object has labels now: {labels}"))?;
    let made = cluster.kubectl(&["get", "deployments,services", "--namespace=kube-system", "--output=name"])?;
    ensure(!made.contains("metrics-server"), || format!("half of it was made: {made}"))?;
    cluster.kubectl(&[&["delete"], &account[..]].concat()).map(drop)
}
