//! An image that a node lacks and cannot pull: its pod would wait for it until the deadline.

use crate::cluster::health::ask::output;
use crate::engine::Engine;
use crate::error::{Code, Error};

/// What the kubelet logs about each pull that failed.
const FAILED: &str = "\"PullImage from image service failed\"";

/// The error of an image that cannot be pulled, from the kubelet's log, which exists before the API does.
///
/// While a cluster is created, all images are coracle's own, and should be in the node image.
pub(super) async fn find_failure(engine: &dyn Engine, node: &str) -> Option<Error> {
    let command = ["journalctl", "--unit=kubelet", "--no-pager", "--output=cat", "--lines=1", "--grep", FAILED];
    let line = output(engine, node, &command).await?;
    let (image, cause) = parse(&line)?;
    // A later attempt may have succeeded.
    if output(engine, node, &["crictl", "inspecti", "--quiet", &image]).await.is_some() {
        return None;
    }
    Some(
        Error::new(Code::ImageMissing, format!("the node image lacks `{image}`, and it cannot be pulled"))
            .on_node(node)
            .because(cause)
            .hint("`coracle build node-image` builds an image with everything that a cluster needs"),
    )
}

/// The image and the innermost cause in a line of the kubelet's log.
fn parse(line: &str) -> Option<(String, String)> {
    let field = |name: &str| {
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
    };
    let image = field(" image")?;
    let error = field(" err")?;
    // containerd puts the errors of its own layers first.
    let cause = error.rsplit_once(&format!("{image}\": ")).map_or(error.as_str(), |(_, cause)| cause);
    Some((image, cause.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_and_the_cause_are_found_in_the_kubelets_log() {
        let line = "E1121 12:00:01.000000     300 log.go:32] \"PullImage from image service failed\" err=\"rpc error: code = \
                    Unknown desc = failed to pull and unpack image \\\"localhost:1/x:1\\\": failed to resolve reference \
                    \\\"localhost:1/x:1\\\": dial tcp 127.0.0.1:1: connect: connection refused\" image=\"localhost:1/x:1\"\n";
        let (image, cause) = parse(line).unwrap();
        assert_eq!(
            (image.as_str(), cause.as_str()),
            ("localhost:1/x:1", "dial tcp 127.0.0.1:1: connect: connection refused")
        );
        assert_eq!(parse("-- No entries --\n"), None);
    }
}
