//! Gathers what is needed to find out why a cluster misbehaves: a directory for each node, running or stopped.
//!
//! An item that cannot be had is noted and does not stop the others. Private keys and the values of environment variables
//! never get into the directory.

use std::path::Path;

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use serde_json::Value;

use crate::cluster::found::{Cluster, Node};
use crate::cluster::logs::directory::{Directory, LogExport};
use crate::cluster::logs::objects;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::plan::node::proxy::masked;

/// Where the kubelet's runtime writes the output of containers, and links by container name.
const LOGS: &str = "/var/log";
/// The directories in it that are exported.
const POD_LOGS: [&str; 2] = ["pods", "containers"];
/// The journal's files, for `journalctl --directory`; exported if no program in the node can read it.
const JOURNAL: &str = "/var/log/journal";
/// The version of Kubernetes that a node image carries.
const VERSION: &str = "/kind/version";
/// Commands that run in a running node, and the files for their output.
const COMMANDS: &[(&str, &[&str])] = &[
    ("journal.log", &["journalctl", "--no-pager"]),
    ("kubelet.log", &["journalctl", "--no-pager", "--unit=kubelet"]),
    ("containerd.log", &["journalctl", "--no-pager", "--unit=containerd"]),
    ("images.log", &["crictl", "images", "--digests"]),
    ("containers.log", &["crictl", "ps", "--all"]),
    ("network.log", &["sh", "-c", "ip address; ip route; ip -6 route"]),
];
/// Environment variables whose values are harmless.
const HARMLESS: [&str; 3] = ["PATH", "container", "LANG"];
const REDACTED: &str = "REDACTED";

/// Writes the logs of a cluster into a directory, which is created if it does not exist.
pub async fn export_logs(engine: &dyn Engine, cluster: &Cluster, directory: &Path) -> Result<LogExport> {
    let top = Directory::create(directory)?;
    top.text("coracle-version.txt", &format!("{}\n", env!("CARGO_PKG_VERSION")));
    match engine.info().await {
        Ok(mut info) => {
            // A proxy's URL can have a password in it.
            info.proxy = (redact_url(&info.proxy.0), redact_url(&info.proxy.1), info.proxy.2);
            top.json("engine.json", &serde_json::to_value(&info).unwrap_or_default());
        }
        Err(error) => top.problem("engine.json", &error),
    }
    let nodes = join_all(cluster.nodes.iter().map(|node| export_node(engine, node, &top)));
    let beside =
        cluster.balancer.iter().chain(&cluster.ports).map(async |container| match top.directory(&container.name) {
            Ok(directory) => export_container(engine, &container.name, &directory).await,
            Err(error) => top.problem(&container.name, &error),
        });
    tokio::join!(nodes, join_all(beside), objects::export(engine, cluster, &top));
    Ok(top.finish())
}

async fn export_node(engine: &dyn Engine, node: &Node, top: &Directory) {
    let name = &node.name;
    let directory = match top.directory(name) {
        Ok(directory) => directory,
        Err(error) => return top.problem(name, &error),
    };
    export_container(engine, name, &directory).await;
    match download(engine, name, VERSION).await {
        Ok(Some(tar)) => directory.only_file("kubernetes-version.txt", &tar),
        Ok(None) => {
            directory.text("kubernetes-version.txt", &format!("{}\n", node.version.as_deref().unwrap_or_default()));
        }
        Err(error) => directory.problem("kubernetes-version.txt", &error),
    }
    if node.is_running() {
        for (file, command) in COMMANDS {
            match output(engine, name, command).await {
                Ok(output) => directory.write(file, output),
                Err(error) => directory.problem(file, &error),
            }
        }
        // The engine's own archive call trips over files that grow while it reads them; tar does not.
        let command =
            ["tar", "--create", "--gzip", "--ignore-failed-read", "--directory", LOGS, POD_LOGS[0], POD_LOGS[1]];
        match engine.exec(name, &command, None).await {
            Ok(output) if !output.stdout.is_empty() => directory.unpack_gzip(&output.stdout),
            Ok(output) => directory.problem(POD_LOGS[0], &failed(&command, &output.stderr)),
            Err(error) => directory.problem(POD_LOGS[0], &error),
        }
        return;
    }
    for path in [format!("{LOGS}/{}", POD_LOGS[0]), format!("{LOGS}/{}", POD_LOGS[1]), JOURNAL.to_owned()] {
        match download(engine, name, &path).await {
            Ok(Some(tar)) => directory.unpack(&tar),
            // A node that never came up has none.
            Ok(None) => {}
            Err(error) => directory.problem(&path, &error),
        }
    }
}

/// What the engine itself knows about a container.
async fn export_container(engine: &dyn Engine, name: &str, directory: &Directory) {
    match engine.logs(name, None).await {
        Ok(output) => directory.write("serial.log", output),
        Err(error) => directory.problem("serial.log", &error),
    }
    match engine.inspect(name).await {
        Ok(Some(mut inspected)) => {
            redact(&mut inspected.description);
            directory.json("inspect.json", &inspected.description);
        }
        Ok(None) => directory.problem("inspect.json", &Error::new(Code::NotFound, "the container is gone")),
        Err(error) => directory.problem("inspect.json", &error),
    }
}

async fn output(engine: &dyn Engine, node: &str, command: &[&str]) -> Result<Vec<u8>> {
    let output = engine.exec(node, command, None).await?;
    if output.exit_code == 0 || !output.stdout.is_empty() {
        return Ok(output.stdout);
    }
    Err(failed(command, &output.stderr))
}

fn failed(command: &[&str], stderr: &[u8]) -> Error {
    let text = String::from_utf8_lossy(stderr);
    let why = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it printed nothing").trim().to_owned();
    Error::new(Code::StepFailed, format!("`{}` failed", command.join(" "))).because(why)
}

async fn download(engine: &dyn Engine, node: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let Some(mut stream) = engine.download(node, path).await? else { return Ok(None) };
    let mut tar = Vec::new();
    let broken =
        |source: std::io::Error| Error::new(Code::EngineFailed, format!("cannot read `{path}`")).with_cause(&source);
    while let Some(chunk) = stream.try_next().await.map_err(broken)? {
        tar.extend_from_slice(&chunk);
    }
    Ok(Some(tar))
}

/// Removes the values of environment variables from a container's description.
fn redact(description: &mut Value) {
    let variables = description.pointer_mut("/Config/Env").and_then(Value::as_array_mut);
    for variable in variables.into_iter().flatten() {
        let name = variable.as_str().and_then(|text| text.split('=').next()).unwrap_or_default().to_owned();
        if !HARMLESS.contains(&name.as_str()) {
            *variable = Value::String(format!("{name}={REDACTED}"));
        }
    }
}

/// Removes user name and password from a URL.
fn redact_url(url: &str) -> String {
    masked(url, REDACTED)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;
    use crate::cluster::found::group;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::{ContainerSpec, ExecOutput};
    use crate::plan::labels;

    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\n-----END EC PRIVATE KEY-----\n";

    fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            if let Some((path, target)) = path.split_once(" -> ") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, path, target).unwrap();
            } else {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    fn answer(_: &str, command: &[&str], _: Vec<u8>) -> ExecOutput {
        let stdout = if command[0] == "tar" {
            let tar = tar_of(&[
                ("pods/app/0.log", &format!("said\n{KEY}more\n")),
                ("containers/app.log -> /var/log/pods/app/0.log", ""),
                ("containers/evil.log -> /etc/shadow", ""),
            ]);
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(&tar).unwrap();
            packed.finish().unwrap()
        } else {
            command.join(" ").into_bytes()
        };
        ExecOutput { exit_code: 0, stdout, stderr: Vec::new() }
    }

    async fn cluster(engine: &FakeEngine) -> Cluster {
        for (name, role) in [("c-control-plane", "control-plane"), ("c-worker", "worker")] {
            let labels = [(labels::CLUSTER, "c"), (labels::ROLE, role), (labels::VERSION, "v1.36.3")];
            let spec = ContainerSpec {
                environment: vec!["HTTP_PROXY=http://me:secret@proxy".to_owned(), "PATH=/bin".to_owned()],
                labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
                ..ContainerSpec::new(name, "node")
            };
            engine.create_container(&spec).await.unwrap();
        }
        engine.start_container("c-control-plane").await.unwrap();
        group(engine.containers(&[]).await.unwrap()).pop().unwrap()
    }

    fn engine() -> FakeEngine {
        FakeEngine::new(&["node"]).on_exec(answer).on_download(|_, path| match path {
            VERSION => Some(tar_of(&[("version", "v1.36.3")])),
            "/var/log/pods" => Some(tar_of(&[("pods/old/0.log", "from a stopped node\n")])),
            _ => None,
        })
    }

    #[tokio::test]
    async fn running_and_stopped_nodes_are_gathered_without_secrets() {
        let engine = engine();
        let cluster = cluster(&engine).await;
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("deep/logs");
        let export = export_logs(&engine, &cluster, &directory).await.unwrap();
        let no_api = "api: `/etc/kubernetes/admin.conf` does not exist on node `c-control-plane`";
        let evil = "c-control-plane/containers/evil.log: it leads out of the logs";
        assert_eq!(export.problems, [no_api, evil]);
        let read = |path: &str| std::fs::read_to_string(directory.join(path)).unwrap();
        assert_eq!(read("c-control-plane/kubelet.log"), "journalctl --no-pager --unit=kubelet");
        assert_eq!(read("c-control-plane/containers/app.log"), "said\nREDACTED PRIVATE KEY\nmore\n");
        assert_eq!(read("c-worker/kubernetes-version.txt"), "v1.36.3");
        assert_eq!(read("c-worker/pods/old/0.log"), "from a stopped node\n");
        let inspected = read("c-worker/inspect.json");
        assert!(inspected.contains("HTTP_PROXY=REDACTED") && !inspected.contains("secret"));
        assert!(export.files >= 14, "{export:?}");
    }

    #[tokio::test]
    async fn one_item_that_fails_does_not_stop_the_others() {
        let healthy = engine();
        let found = cluster(&healthy).await;
        let before = healthy.transcript().len();
        let whole = export_logs(&healthy, &found, tempfile::tempdir().unwrap().path()).await.unwrap();
        let calls = healthy.transcript().len() - before;
        for n in 1..=calls {
            let engine = engine().failing_at(before + n);
            let found = cluster(&engine).await;
            let place = tempfile::tempdir().unwrap();
            let export = export_logs(&engine, &found, place.path()).await.unwrap();
            assert!(export.problems.iter().any(|problem| problem.contains("as the test wants")), "{n}: {export:?}");
            assert!(export.files + 4 >= whole.files, "{n}: {export:?}");
            assert!(place.path().join("problems.txt").exists());
        }
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_made_is_named() {
        let engine = engine();
        let cluster = cluster(&engine).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = export_logs(&engine, &cluster, &file.path().join("x")).await.unwrap_err();
        assert_eq!(error.code(), Code::FileFailed);
    }

    #[test]
    fn passwords_do_not_stay_in_urls_and_variables() {
        assert_eq!(redact_url("http://me:secret@proxy:3128"), "http://REDACTED@proxy:3128");
        assert_eq!(redact_url("http://proxy:3128"), "http://proxy:3128");
        let mut description = json!({"Config": {"Env": ["TOKEN=abc=def", "PATH=/bin", "EMPTY"]}});
        redact(&mut description);
        assert_eq!(description["Config"]["Env"], json!(["TOKEN=REDACTED", "PATH=/bin", "EMPTY=REDACTED"]));
    }
}
