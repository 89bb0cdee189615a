//! Credentials for registries: pushed to the nodes' kubelets, in memory only.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::cluster::found::Cluster;
use crate::cluster::registry::nodes::write_files;
use crate::config::Registry;
use crate::engine::files::{self, read_file};
use crate::engine::{ByteStream, Engine};
use crate::error::{Code, Error, Result};
use crate::plan::FileTree;
use crate::plan::node::credentials::{self, ANSWER, CONFIG, FLAGS, HOSTS, Login};
use crate::plan::node::registries::login_files;

/// Hosts for which the cluster's nodes have, or had, credentials.
pub async fn known_hosts(engine: &dyn Engine, cluster: &Cluster) -> Result<BTreeSet<String>> {
    match cluster.nodes.first() {
        Some(node) => hosts(engine, &node.name).await,
        None => Ok(BTreeSet::new()),
    }
}

/// The registries of the configuration that the cluster was created from.
pub async fn configured(engine: &dyn Engine, cluster: &Cluster) -> Result<Vec<Registry>> {
    Ok(cluster.configuration(engine).await?.map(|config| config.registries).unwrap_or_default())
}

async fn hosts(engine: &dyn Engine, node: &str) -> Result<BTreeSet<String>> {
    let text = read_file(engine, node, HOSTS).await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}

/// Pushes credentials to nodes whose kubelets are configured for them.
pub async fn push_credentials(engine: &dyn Engine, nodes: &[String], logins: &[Login]) -> Result<()> {
    if logins.is_empty() {
        return Ok(());
    }
    try_join_all(nodes.iter().map(|node| push_to_node(engine, node, logins))).await.map(drop)
}

/// Pushes credentials for registries to the running nodes of a cluster. Returns how many kubelets were restarted to load
/// them.
pub async fn log_in(
    engine: &dyn Engine,
    cluster: &Cluster,
    registries: &[Registry],
    logins: &[Login],
) -> Result<usize> {
    let running: Vec<_> = cluster.running().collect();
    if running.is_empty() && !cluster.nodes.is_empty() {
        return Err(Error::new(Code::StepFailed, format!("no node of cluster `{}` runs", cluster.name))
            .because("credentials are kept in the memory of running nodes")
            .hint(format!("start the cluster: `coracle start {}`", cluster.name)));
    }
    let work = running.iter().map(|node| log_in_node(engine, &node.name, registries, logins));
    Ok(try_join_all(work).await?.into_iter().filter(|restarted| *restarted).count())
}

async fn log_in_node(engine: &dyn Engine, node: &str, registries: &[Registry], logins: &[Login]) -> Result<bool> {
    // First, so that no other host is offered the credentials.
    let mut files = FileTree::default();
    for registry in registries {
        let login = logins.iter().find(|login| login.host == registry.host);
        // A name of this machine is a local registry's, which is reached by a file of its own.
        if let Some(login) = login.filter(|_| !registry.host.starts_with("localhost")) {
            login_files(&mut files, registry, &login.hosts);
        }
    }
    write_files(engine, node, &files).await?;
    push_to_node(engine, node, logins).await?;
    let mut all = hosts(engine, node).await?;
    all.extend(logins.iter().map(|login| login.host.clone()));
    let before = read_file(engine, node, CONFIG).await?;
    let mut files = FileTree::default();
    credentials::node_files(&mut files, &all)?;
    write_files(engine, node, &files).await?;
    if before.is_some_and(|before| credentials::configuration(&all).is_ok_and(|text| text.as_bytes() == before)) {
        return Ok(false);
    }
    let flags = credentials::flags().join(" ");
    let script = format!(
        "grep -q image-credential-provider-config {FLAGS} || sed -i 's|\"$| {flags}\"|' {FLAGS}; systemctl restart kubelet"
    );
    run(engine, node, &script, None).await.map(|_| true)
}

/// Adds credentials to those that the node's kubelet gets. They travel as input, never as an argument.
async fn push_to_node(engine: &dyn Engine, node: &str, logins: &[Login]) -> Result<()> {
    let before = run(engine, node, &format!("cat {ANSWER} 2>/dev/null || true"), None).await?;
    let before = serde_json::from_slice(&before).ok();
    let answer = Bytes::from(credentials::answer(before.as_ref(), logins));
    let input: ByteStream = Box::pin(futures_util::stream::once(async move { Ok(answer) }));
    // Renamed, so that the kubelet never reads half a file.
    let script = format!("umask 077 && mkdir -p /run/coracle && cat > {ANSWER}.new && mv {ANSWER}.new {ANSWER}");
    run(engine, node, &script, Some(input)).await.map(drop)
}

async fn run(engine: &dyn Engine, node: &str, script: &str, input: Option<ByteStream>) -> Result<Vec<u8>> {
    let failure = Error::new(Code::StepFailed, "cannot push credentials to the kubelet");
    files::run(engine, node, &["sh", "-c", script], input, failure).await.map_err(|error| error.on_node(node))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::{ContainerSpec, ExecOutput};
    use crate::plan::node::credentials::Secret;

    #[tokio::test]
    async fn credentials_are_input_of_a_command_and_nothing_else() {
        let inputs = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&inputs);
        let engine = FakeEngine::new(&["node"]).on_exec(move |_, _, input| {
            seen.lock().unwrap().push(String::from_utf8(input).unwrap());
            ExecOutput::default()
        });
        engine.create_container(&ContainerSpec::new("t-node", "node")).await.unwrap();
        engine.start_container("t-node").await.unwrap();
        let registry = Registry { mirrors: vec!["https://m.example".to_owned()], ..Registry::new("a.example") };
        let login = Login {
            host: "a.example".to_owned(),
            user: "me".to_owned(),
            secret: Secret::new("hunter2"),
            hosts: ["a.example".to_owned()].into(),
        };
        assert!(log_in_node(&engine, "t-node", &[registry], &[login]).await.unwrap());
        let files = engine.files("t-node");
        let hosts = String::from_utf8_lossy(&files["/etc/containerd/certs.d/a.example/hosts.toml"]);
        assert_eq!(hosts, "server = \"https://a.example\"\n");
        assert!(inputs.lock().unwrap().iter().any(|input| input.contains("hunter2")));
        assert!(!engine.transcript().join("\n").contains("hunter2"));
        for (path, content) in engine.files("t-node") {
            assert!(!String::from_utf8_lossy(&content).contains("hunter2"), "{path}");
        }
    }
}
