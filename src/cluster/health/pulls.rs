//! An image that a node cannot pull: coracle's pod would wait for it until the deadline.

use crate::cluster::health::ask::output;
use crate::cluster::health::causes::Cause;
use crate::cluster::health::facts::Facts;
use crate::engine::Engine;
use crate::error::{Code, Error};

/// The error of an image of coracle's own pods that cannot be pulled, from the kubelet's log, which exists before the API does.
/// Users' pods may lack theirs, which is no fault of the cluster.
pub(super) async fn find_failure(engine: &dyn Engine, node: &str, facts: &Facts) -> Option<Error> {
    let failed = parse(facts.pull.as_deref()?)?;
    if !still_waits(engine, node, &failed.pod).await? {
        return None;
    }
    // With the admission plugin `AlwaysPullImages`, what a node has does not help.
    let is_there = output(engine, node, &["crictl", "inspecti", "--quiet", &failed.image]).await.is_some();
    let (what, hint) = if is_there {
        (
            format!("the node image contains `{}`, but the kubelet pulls it anyway", failed.image),
            "remove `AlwaysPullImages` from `enable-admission-plugins`",
        )
    } else {
        (
            format!("the node image lacks `{}`, and it cannot be pulled", failed.image),
            "`coracle build node-image` builds an image with everything that a cluster needs",
        )
    };
    let error = Error::new(Code::ImageMissing, what).on_node(node).because(failed.cause).hint(hint);
    Some(error.of_cause(Cause::Image.row().id))
}

/// Whether a pod is still there and none of its containers runs: the log also has what is long over.
async fn still_waits(engine: &dyn Engine, node: &str, pod: &str) -> Option<bool> {
    let sandbox = output(engine, node, &["crictl", "pods", "--state", "Ready", "--quiet", "--name", pod]).await?;
    let Some(sandbox) = sandbox.split_whitespace().next() else {
        return Some(false);
    };
    Some(output(engine, node, &["crictl", "ps", "--quiet", "--pod", sandbox]).await?.trim().is_empty())
}

/// A pull that failed.
#[derive(Debug, PartialEq, Eq)]
struct Failed {
    /// The pod's name.
    pod: String,
    image: String,
    /// The innermost cause.
    cause: String,
}

/// What a line of the kubelet's log says.
fn parse(line: &str) -> Option<Failed> {
    let error = field(line, " err")?;
    let (_, pod) = field(line, " pod")?.split_once('/').map(|(space, pod)| (space.to_owned(), pod.to_owned()))?;
    let quoted = error.split_once("Back-off pulling image ")?.1.replace('\\', "");
    let (image, rest) = quoted.strip_prefix('"')?.split_once('"')?;
    // containerd puts the errors of its own layers first, and the whole is in quotation marks.
    let cause = rest.rsplit_once(&format!("{image}\": ")).map_or(rest.trim_start_matches(": "), |(_, cause)| cause);
    Some(Failed { pod, image: image.to_owned(), cause: cause.trim_end_matches('"').to_owned() })
}

/// The text of a field of a line of the kubelet's log.
fn field(line: &str, name: &str) -> Option<String> {
    let rest = line.split_once(&format!("{name}=\""))?.1;
    let mut text = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => text.extend(letters.next()),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_the_image_and_the_cause_are_found_in_the_kubelets_log() {
        let line = r#"E1129 01:06:08.386510      72 pod_workers.go:1338] "Error syncing pod, skipping" err="failed to \"StartContainer\" for \"bad\" with ImagePullBackOff: \"Back-off pulling image \\\"t-no-such:v1\\\": ErrImagePull: failed to pull and unpack image \\\"docker.io/library/t-no-such:v1\\\": failed to resolve reference \\\"docker.io/library/t-no-such:v1\\\": failed to do request: Head \\\"https://registry-1.docker.io/v2/library/t-no-such/manifests/v1\\\": dial tcp: lookup registry-1.docker.io on 172.18.0.1:53: no such host\"" pod="kube-system/bad" podUID="b0a27166-e691-4e9f-9afe-47fe5ee6b80f""#;
        let failed = parse(line).unwrap();
        assert_eq!((failed.pod.as_str(), failed.image.as_str()), ("bad", "t-no-such:v1"));
        let cause = "failed to do request: Head \"https://registry-1.docker.io/v2/library/t-no-such/manifests/v1\": \
                     dial tcp: lookup registry-1.docker.io on 172.18.0.1:53: no such host";
        assert_eq!(failed.cause, cause);
        assert_eq!(parse("-- No entries --\n"), None);
    }
}
