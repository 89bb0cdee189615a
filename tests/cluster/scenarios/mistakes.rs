//! Mistakes that are told, with nothing left of them.

use crate::harness::cleanup;
use crate::harness::cluster::Cluster;
use crate::harness::run::{contains, docker, ensure};

/// A name that is taken is refused, and the cluster that has it is untouched.
pub(super) fn name_taken(cluster: &Cluster) -> Result<(), String> {
    let id = docker(&["inspect", "--format={{.Id}} {{.State.StartedAt}}", &cluster.node()])?;
    let output = cluster.coracle_output(&["create", "cluster"])?;
    ensure(output.code == 3, || output.told())?;
    contains(&output.stderr, "error[cluster-exists]")?;
    contains(&output.stderr, "coracle delete cluster --name")?;
    let after = docker(&["inspect", "--format={{.Id}} {{.State.StartedAt}}", &cluster.node()])?;
    ensure(id == after, || "the cluster was touched".to_owned())?;
    cluster.coracle(&["status"]).map(drop)
}

/// Fails when the engine has anything with this in its name.
pub(super) fn nothing_of(name: &str) -> Result<(), String> {
    for list in [&["ps", "--all", "--format={{.Names}}"][..], &["volume", "ls"], &["network", "ls"]] {
        ensure(!docker(list)?.contains(name), || format!("`docker {}` shows {name}", list.join(" ")))?;
    }
    Ok(())
}

/// Names that the node image's Kubernetes does not know, and values of wrong types, are all told before anything is made,
/// and what coracle itself sets is in the lists.
pub(super) fn unknown_settings(cluster: &Cluster) -> Result<(), String> {
    let name = format!("{}unknown-{}", cleanup::PREFIX, std::process::id());
    let head = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n";
    let config = format!(
        "{head}featureGates: {{NodeSwop: true}}\nkubelet:\n  maxPodz: 50\n  authentication: {{webhook: {{enabled: 'no'}}}}\n\
         kubeProxy: {{conntrack: {{tcpCloseWaitTimeuot: 1s}}}}\napiServer: {{no-such-flag: x, profilin: false}}\n\
         controllerManager: {{concurrent-gc-syncs: lots}}\nscheduler: {{kube-api-qs: 1}}\netcd: {{snapshot-cont: 5}}\n"
    );
    let path = cluster.write("unknown.yaml", &config)?;
    for more in [&["--dry-run"][..], &[]] {
        let command = [&["create", "cluster", "--name", &name, "--config", &path], more].concat();
        let output = cluster.coracle_output(&command)?;
        ensure(output.code == 2, || output.told())?;
        for part in [
            "9 problems",
            "unknown.yaml:3:16: Kubernetes v1.",
            "did you mean `NodeSwap`?",
            "unknown.yaml:5:3: KubeletConfiguration of Kubernetes v1.",
            "did you mean `maxPods`?",
            "unknown.yaml:6:39: `enabled` must be `true` or `false`",
            "did you mean `tcpCloseWaitTimeout`?",
            "has no flag `no-such-flag`",
            "did you mean `profiling`?",
            "`concurrent-gc-syncs` must be a whole number",
            "did you mean `kube-api-qps`?",
            "did you mean `snapshot-count`?",
        ] {
            contains(&output.stderr, part)?;
        }
    }
    nothing_of(&name)?;
    let list = cluster.in_node("cat /usr/share/coracle/settings.json")?;
    let list: serde_json::Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
    for program in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"] {
        let manifest = cluster.in_node(&format!("cat /etc/kubernetes/manifests/{program}.yaml"))?;
        let flags = manifest.lines().filter_map(|line| line.trim().strip_prefix("- --")?.split('=').next());
        let unknown: Vec<_> = flags.filter(|flag| list["flags"][program].get(flag).is_none()).collect();
        ensure(unknown.is_empty(), || format!("the list of {program} lacks {unknown:?}"))?;
    }
    Ok(())
}

/// A value that a component does not know ends the creation with the component's own words.
pub(super) fn wrong_flag(cluster: &Cluster) -> Result<(), String> {
    let name = format!("{}flag-{}", cleanup::PREFIX, std::process::id());
    cleanup::register(&name, &cluster.home.join("flag"));
    let config = format!(
        "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nname: {name}\nnodes: [{{role: control-plane}}]\napiServer: {{tls-min-version: VersionTLS99}}\n"
    );
    let path = cluster.write("wrong-flag.yaml", &config)?;
    let output = cluster.coracle_output(&["create", "cluster", "--name", &name, "--config", &path])?;
    ensure(output.code != 0, || "it was created".to_owned())?;
    contains(&output.stderr, "VersionTLS99")?;
    contains(&output.stderr, "kube-apiserver")?;
    nothing_of(&name)
}

/// Every mistake in a file is told at once, with its place, and nothing is made.
pub(super) fn wrong_config(cluster: &Cluster) -> Result<(), String> {
    let name = format!("{}wrong-{}", cleanup::PREFIX, std::process::id());
    let config = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes:\n  - role: controlplane\n  - rol: worker\nnetworking:\n  podSubnet: 10.244.0.0\n";
    let path = cluster.write("wrong.yaml", config)?;
    let output = cluster.coracle_output(&["create", "cluster", "--name", &name, "--config", &path])?;
    ensure(output.code == 2, || output.told())?;
    for part in ["wrong.yaml:4:", "control-plane", "wrong.yaml:5:", "role", "wrong.yaml:7:"] {
        contains(&output.stderr, part)?;
    }
    nothing_of(&name)
}
