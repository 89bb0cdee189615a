//! The sample: built, loaded, deployed and answering, as its README has it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, answers};
use crate::harness::run::{contains, ensure, eventually, run};

/// The image of the sample.
pub const IMAGE: &str = "hello-world:latest";

/// Builds the image of the sample; the engine's cache has it the second time.
pub fn build() -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/hello-world/build.sh");
    run(Command::new(script), None, Duration::from_secs(400))?.ok().map(drop)
}

/// Builds and loads the image, and applies the manifest.
pub(super) fn deploy(cluster: &Cluster) -> Result<(), String> {
    build()?;
    cluster.coracle(&["load", "docker-image", IMAGE])?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/hello-world/deployment.yaml");
    cluster.kubectl(&["apply", "--filename", &manifest.display().to_string()])?;
    cluster.rolled_out("hello-world")
}

/// Loaded once, a second load has nothing to send.
pub(super) fn load(cluster: &Cluster) -> Result<(), String> {
    deploy(cluster)?;
    let images = cluster.in_node("crictl images --output json")?;
    contains(&images, "docker.io/library/hello-world:latest")?;
    let report = cluster.coracle_output(&["load", "docker-image", IMAGE])?;
    contains(&report.stderr, "had ")?;
    ensure(report.code == 0, || report.told())?;
    let missing = cluster.coracle_output(&["load", "docker-image", "t-accept-there-is-no-such-image"])?;
    ensure(missing.code != 0, || "loading an image that is not there succeeded".to_owned())?;
    contains(&missing.stderr, "t-accept-there-is-no-such-image")
}

/// The page answers through the port mapping, at the node's address, and at what `coracle url` prints.
pub(super) fn page(cluster: &Cluster) -> Result<(), String> {
    let published = cluster.host_port(30080)?;
    contains(&published, "127.0.0.1:")?;
    answers(&format!("http://{published}/"), EVENTUALLY_TIMEOUT)?;
    answers(&format!("http://{}:30080/", cluster.address()?), EVENTUALLY_TIMEOUT)?;
    let url = cluster.coracle(&["url", "hello-world"])?;
    ensure(url.trim() == format!("http://{published}"), || format!("`coracle url` printed {url}"))?;
    let all = cluster.coracle(&["url", "hello-world", "--all"])?;
    ensure(all.lines().count() >= 2, || format!("`coracle url --all` printed {all}"))?;
    for url in all.lines() {
        answers(url, EVENTUALLY_TIMEOUT)?;
    }
    let json = cluster.coracle_json(&["url", "hello-world", "--output=json"])?;
    ensure(json[0]["url"] == url.trim(), || format!("`coracle url -o json` printed {json}"))?;
    // Both replicas serve: the page names the pod. kube-proxy may hear of the second one a moment later.
    let mut pods = std::collections::BTreeSet::new();
    eventually(EVENTUALLY_TIMEOUT, || {
        pods.insert(answers(url.trim(), EVENTUALLY_TIMEOUT)?);
        ensure(pods.len() == 2, || format!("only one of two pods answers: {pods:?}"))
    })?;
    let none = cluster.coracle_output(&["url", "kubernetes"])?;
    ensure(none.code != 0, || "`coracle url` of a ClusterIP succeeded".to_owned())?;
    contains(&none.stderr, "ClusterIP")
}
