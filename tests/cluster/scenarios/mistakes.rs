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

/// A flag that a component does not know ends the creation with the component's own words.
pub(super) fn wrong_flag(cluster: &Cluster) -> Result<(), String> {
    let name = format!("{}flag-{}", cleanup::PREFIX, std::process::id());
    cleanup::register(&name, &cluster.home.join("flag"));
    let config = format!(
        "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nname: {name}\nnodes: [{{role: control-plane}}]\napiServer: {{no-such-flag: x}}\n"
    );
    let path = cluster.write("wrong-flag.yaml", &config)?;
    let output = cluster.coracle_output(&["create", "cluster", "--name", &name, "--config", &path])?;
    ensure(output.code != 0, || "it was created".to_owned())?;
    contains(&output.stderr, "unknown flag: --no-such-flag")?;
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
