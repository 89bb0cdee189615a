//! Credentials for registries: given to the nodes' kubelets, in memory only.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::cluster::found::Cluster;
use crate::cluster::registry::put;
use crate::config::{self, Overrides, Registry};
use crate::engine::files::{self, read_file};
use crate::engine::{ByteStream, Engine};
use crate::error::{Code, Error, Result};
use crate::plan::FileTree;
use crate::plan::node::CLUSTER_CONFIG;
use crate::plan::node::credentials::{self, ANSWER, CONFIG, FLAGS, HOSTS, Login};

/// Hosts for which the cluster's nodes have, or had, credentials.
pub async fn known_hosts(engine: &dyn Engine, cluster: &Cluster) -> Result<BTreeSet<String>> {
    match cluster.nodes.first() {
        Some(node) => hosts(engine, &node.name).await,
        None => Ok(BTreeSet::new()),
    }
}

/// The registries of the configuration that the cluster was created from.
pub async fn configured(engine: &dyn Engine, cluster: &Cluster) -> Result<Vec<Registry>> {
    Ok(configuration(engine, cluster).await?.map(|config| config.registries).unwrap_or_default())
}

/// The configuration that a cluster was created from.
pub(crate) async fn configuration(engine: &dyn Engine, cluster: &Cluster) -> Result<Option<config::Cluster>> {
    let Some(node) = cluster.control_plane() else { return Ok(None) };
    let Some(text) = read_file(engine, &node.name, CLUSTER_CONFIG).await? else { return Ok(None) };
    config::load(&String::from_utf8_lossy(&text), CLUSTER_CONFIG, &Overrides::default()).map(Some)
}

async fn hosts(engine: &dyn Engine, node: &str) -> Result<BTreeSet<String>> {
    let text = read_file(engine, node, HOSTS).await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}

/// Gives credentials to nodes that were made for them.
pub async fn give(engine: &dyn Engine, nodes: &[String], logins: &[Login]) -> Result<()> {
    if logins.is_empty() {
        return Ok(());
    }
    try_join_all(nodes.iter().map(|node| give_one(engine, node, logins))).await.map(drop)
}

/// Gives credentials to the nodes of a cluster that run. Says how many kubelets had to start again for it.
pub async fn log_in(engine: &dyn Engine, cluster: &Cluster, logins: &[Login]) -> Result<usize> {
    let running: Vec<_> = cluster.nodes.iter().filter(|node| node.is_running()).collect();
    if let (true, Some(first)) = (running.is_empty(), cluster.nodes.first()) {
        return Err(Error::new(Code::StepFailed, format!("no node of cluster `{}` runs", cluster.name))
            .because("credentials are kept in the memory of nodes that run")
            .hint(format!("start them, such as with `docker start {}`", first.name)));
    }
    let work = running.iter().map(|node| log_in_node(engine, &node.name, logins));
    Ok(try_join_all(work).await?.into_iter().filter(|restarted| *restarted).count())
}

async fn log_in_node(engine: &dyn Engine, node: &str, logins: &[Login]) -> Result<bool> {
    give_one(engine, node, logins).await?;
    let mut all = hosts(engine, node).await?;
    all.extend(logins.iter().map(|login| login.host.clone()));
    let before = read_file(engine, node, CONFIG).await?;
    let mut files = FileTree::default();
    credentials::node_files(&mut files, &all)?;
    put(engine, node, &files).await?;
    if before.is_some_and(|before| credentials::configuration(&all).is_ok_and(|text| text.as_bytes() == before)) {
        return Ok(false);
    }
    let flags = credentials::flags().join(" ");
    let script = format!(
        "grep -q image-credential-provider-config {FLAGS} || sed -i 's|\"$| {flags}\"|' {FLAGS}; systemctl restart kubelet"
    );
    run(engine, node, &script, None).await.map(|_| true)
}

/// Adds to what the node's kubelet is answered. The credentials travel as input, never as an argument.
async fn give_one(engine: &dyn Engine, node: &str, logins: &[Login]) -> Result<()> {
    let before = run(engine, node, &format!("cat {ANSWER} 2>/dev/null || true"), None).await?;
    let before = serde_json::from_slice(&before).ok();
    let answer = Bytes::from(credentials::answer(before.as_ref(), logins));
    let input: ByteStream = Box::pin(futures_util::stream::once(async move { Ok(answer) }));
    // Moved, so that the kubelet never reads half of it.
    let script = format!("umask 077 && mkdir -p /run/coracle && cat > {ANSWER}.new && mv {ANSWER}.new {ANSWER}");
    run(engine, node, &script, Some(input)).await.map(drop)
}

async fn run(engine: &dyn Engine, node: &str, script: &str, input: Option<ByteStream>) -> Result<Vec<u8>> {
    let failure = Error::new(Code::StepFailed, "cannot give credentials to the kubelet");
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
        let login = Login { host: "a.example".to_owned(), user: "me".to_owned(), secret: Secret::new("hunter2") };
        assert!(log_in_node(&engine, "t-node", &[login]).await.unwrap());
        assert!(inputs.lock().unwrap().iter().any(|input| input.contains("hunter2")));
        assert!(!engine.transcript().join("\n").contains("hunter2"));
        for (path, content) in engine.files("t-node") {
            assert!(!String::from_utf8_lossy(&content).contains("hunter2"), "{path}");
        }
    }
}
