//! A node's image store: what it has, a new name, a new image.

use serde::Deserialize;

use super::reference::Reference;
use crate::engine::{ByteStream, Engine, ExecOutput};
use crate::error::{Code, Error, Result};

/// The kubelet's view of the store; its own configuration is not relied on.
const LIST: &[&str] =
    &["crictl", "--runtime-endpoint=unix:///run/containerd/containerd.sock", "images", "--output=json"];
/// Exit codes of a shell or engine that did not find the program.
const NO_PROGRAM: [i64; 2] = [126, 127];
/// Lines of a failed command that are shown.
const LINES: usize = 5;

/// The images that a node has.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct NodeImages {
    #[serde(default)]
    images: Vec<NodeImage>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeImage {
    id: String,
    #[serde(default)]
    repo_tags: Vec<String>,
    #[serde(default)]
    repo_digests: Vec<String>,
}

impl NodeImages {
    /// Whether the image with this ID has this name.
    pub(super) fn has(&self, id: &str, name: &Reference) -> bool {
        let name = name.to_string();
        self.images
            .iter()
            .any(|image| image.id == id && (image.repo_tags.contains(&name) || image.repo_digests.contains(&name)))
    }

    /// What a name means.
    pub(super) fn id_of(&self, name: &Reference) -> Option<&str> {
        let name = name.to_string();
        let named = |image: &&NodeImage| image.repo_tags.contains(&name) || image.repo_digests.contains(&name);
        self.images.iter().find(named).map(|image| image.id.as_str())
    }

    /// Whether the image is there, under whatever name.
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.images.iter().any(|image| image.id == id)
    }
}

/// Asks a node what it has.
pub(super) async fn list(engine: &dyn Engine, node: &str) -> Result<NodeImages> {
    let output = engine.exec(node, LIST, None).await.map_err(|error| stopped(error, node))?;
    if output.exit_code != 0 {
        return Err(failed("cannot list the images", node, &output));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|source| Error::new(Code::LoadFailed, "cannot list the images").on_node(node).cause(&source))
}

/// Gives an image that a node has another name.
pub(super) async fn tag(engine: &dyn Engine, node: &str, id: &str, name: &Reference) -> Result<()> {
    let name = name.to_string();
    // The kubelet's runtime keeps each image also under its ID.
    let command = ["ctr", "--namespace=k8s.io", "images", "tag", "--force", id, &name];
    let output = engine.exec(node, &command, None).await?;
    if output.exit_code == 0 { Ok(()) } else { Err(failed(&format!("cannot name image `{name}`"), node, &output)) }
}

/// Streams an archive into a node's store and unpacks what it has.
pub(super) async fn import(engine: &dyn Engine, node: &str, archive: ByteStream) -> Result<()> {
    // containerd's transfer service takes the stream in pieces of 32 KiB: 500 MB took 15.2 s that way, 5.9 s this way.
    let command = ["ctr", "--namespace=k8s.io", "images", "import", "--local", "-"];
    let output = engine.exec(node, &command, Some(archive)).await.map_err(|error| error.on_node(node))?;
    if output.exit_code == 0 { Ok(()) } else { Err(failed("cannot import the images", node, &output)) }
}

fn stopped(error: Error, node: &str) -> Error {
    let text = error.to_string();
    if text.contains("is not running") || text.contains("is paused") {
        return Error::new(Code::LoadFailed, "cannot load images")
            .on_node(node)
            .because("it is not running")
            .hint(format!("start it: `docker start {node}`, or leave it out with `--nodes`"));
    }
    error.on_node(node)
}

fn failed(what: &str, node: &str, output: &ExecOutput) -> Error {
    let said = [output.stderr.as_slice(), output.stdout.as_slice()].map(String::from_utf8_lossy);
    let mut lines: Vec<&str> =
        said.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty()).take(100).collect();
    if said.iter().any(|text| text.contains("no space left on device")) {
        return Error::new(Code::DiskFull, what)
            .on_node(node)
            .because("no space left on device")
            .hint("`docker system df` shows what takes space, `docker system prune` frees some");
    }
    lines.drain(..lines.len().saturating_sub(LINES));
    let error = Error::new(Code::LoadFailed, what).on_node(node).lines(lines.iter().copied());
    if NO_PROGRAM.contains(&output.exit_code) {
        return error.because("its image has no `ctr` and `crictl`").hint("use a node image of coracle or kind");
    }
    error.because(lines.last().map_or_else(|| format!("exit code {}", output.exit_code), |line| (*line).to_owned()))
}
