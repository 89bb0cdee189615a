//! Pulling into nodes by their own runtime, with the mirrors, credentials and certificates of the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use crate::engine::spec::ExecOutput;
use crate::engine::{ByteStream, Engine};
use crate::error::{Code, Error, Result};
use crate::image::nodes::tools::{CRICTL, unseen};
use crate::image::progress::Progress;
use crate::image::reference::Reference;
use crate::plan::layout::DOMAIN;

/// Pulls with the credentials that the kubelet would get. They are only in the environment of one process in the node.
/// When the input ends, because the command was interrupted, the pull does too.
const PULL: &str = "name=$1 host=$2 logins=/run/coracle/credentials.json; shift 2; if [ -r $logins ]; then \
                    CRICTL_CREDS=$(jq -r --arg host \"$host\" '.auth[$host] // empty | \"\\(.username):\\(.password)\"' $logins); \
                    export CRICTL_CREDS; fi; exec 3<&0; \"$@\" pull \"$name\" </dev/null 3<&- & pull=$!; \
                    { cat <&3 >/dev/null 2>&1; kill $pull; } >/dev/null 2>&1 & watch=$!; exec 3<&- </dev/null; \
                    wait $pull; code=$?; kill $watch 2>/dev/null; exit $code";
/// The words of registries, in lower case, for missing or wrong credentials.
const DENIED: &[&str] = &["401", "unauthorized", "authorization failed", "no basic auth", "access denied"];
/// The delay before a node is first asked for its progress, and the pause between later questions.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(500);
/// Lists the current downloads of a node's runtime: name, bytes so far, bytes in total.
const DOWNLOADS: &str = "cd /var/lib/containerd/io.containerd.content.v1.content/ingest && for one in */; do \
                         echo \"$one $(stat --format=%s $one/data) $(cat $one/total)\"; done 2>/dev/null; true";

/// Pulls images into nodes, all at the same time.
pub async fn pull(engine: &dyn Engine, nodes: &[String], images: &[Reference], progress: Progress<'_>) -> Result<()> {
    let results = join_all(nodes.iter().map(|node| into_node(engine, node, images, progress))).await;
    let done: Vec<&str> =
        nodes.iter().zip(&results).filter(|(_, result)| result.is_ok()).map(|(node, _)| node.as_str()).collect();
    let failure = results.iter().find_map(|result| result.as_ref().err());
    match failure {
        None => Ok(()),
        Some(error) if done.is_empty() => Err(error.clone()),
        Some(error) => Err(error.clone().hint(format!("these nodes have the images: {}", done.join(", ")))),
    }
}

async fn into_node(engine: &dyn Engine, node: &str, images: &[Reference], progress: Progress<'_>) -> Result<()> {
    let (mut downloads, mut last) = (BTreeMap::new(), (0, 0));
    let watch = async {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(std::mem::replace(&mut pause, PAUSE)).await;
            // This is only for display: the pull reports what goes wrong.
            let Ok(output) = engine.exec(node, &["sh", "-c", DOWNLOADS], None).await else { continue };
            note(&mut downloads, &String::from_utf8_lossy(&output.stdout));
            let now =
                (downloads.values().map(|(done, _)| done).sum(), downloads.values().map(|(_, total)| total).sum());
            if now != last {
                progress(node, now.0, now.1);
                last = now;
            }
        }
    };
    let work = async {
        for image in images {
            pull_image(engine, node, image).await?;
        }
        Ok(())
    };
    tokio::select! {
        done = work => done,
        () = watch => Ok(()),
    }
}

/// Takes in the current downloads; one that is no longer listed is complete.
fn note(downloads: &mut BTreeMap<String, (u64, u64)>, listed: &str) {
    let mut now = BTreeMap::new();
    for line in listed.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(done), total) = (words.next(), words.next(), words.next()) else { continue };
        let Ok(done) = done.parse::<u64>() else { continue };
        let total = total.and_then(|total| total.parse().ok()).unwrap_or_default();
        now.insert(name.to_owned(), (done, done.max(total)));
    }
    for (_, (done, total)) in downloads.iter_mut().filter(|(name, _)| !now.contains_key(*name)) {
        *done = *total;
    }
    downloads.extend(now);
}

async fn pull_image(engine: &dyn Engine, node: &str, image: &Reference) -> Result<()> {
    let name = image.to_string();
    let command = [&["sh", "-c", PULL, "sh", &name, image.domain()], &CRICTL[..]].concat();
    // An input without content that lasts as long as this is waited for.
    let input: ByteStream = Box::pin(futures_util::stream::pending());
    let output = engine.exec(node, &command, Some(input)).await.map_err(|error| unseen(error, node))?;
    if output.exit_code == 0 { Ok(()) } else { Err(not_pulled(node, image, &output)) }
}

fn not_pulled(node: &str, image: &Reference, output: &ExecOutput) -> Error {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    // Each layer of containerd puts its own words first; the cause comes after the last mention of the image.
    let marks = [format!("\"{image}\": "), format!("\\\"{image}\\\": ")];
    let cause = marks.iter().filter_map(|mark| line.rsplit_once(mark.as_str())).map(|(_, cause)| cause);
    let cause = cause.min_by_key(|cause| cause.len()).unwrap_or(line).trim_end_matches('"').replace("\\\"", "\"");
    let familiar = image.familiar();
    let elsewhere =
        format!("if this machine can pull it: `docker pull {familiar} && coracle load docker-image {familiar}`");
    let hints = advice(image.domain(), &cause).into_iter().chain([elsewhere]);
    let error = Error::new(Code::ImageMissing, format!("cannot pull image `{familiar}`")).on_node(node).because(cause);
    hints.fold(error, Error::hint)
}

/// A hint for a pull that failed for this reason.
fn advice(host: &str, cause: &str) -> Option<String> {
    if DENIED.iter().any(|words| cause.to_lowercase().contains(words)) {
        let server = if host == "docker.io" { String::new() } else { format!(" {host}") };
        return Some(format!("log in: `docker login{server}`, then `coracle registry login {host}`"));
    }
    // A local registry that the node knows.
    if let Some((before, _)) = cause.split_once(DOMAIN) {
        let name = before.rsplit(['/', ' ']).next().unwrap_or_default();
        return Some(format!("start the registry: `coracle registry create --name {name}`"));
    }
    (host.starts_with("localhost:") && cause.contains("connection refused")).then(|| {
        "the node has no registry of this name: `coracle registry list` shows the registries and their clusters"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_the_innermost_one() {
        let line = "E1121 12:00:01.0 300 log.go:32] \"PullImage from image service failed\" err=\"x\"\ntime=\"2026\" level=fatal \
                    msg=\"pulling image: rpc error: code = NotFound desc = failed to pull and unpack image \\\"docker.io/library/x:1\\\": \
                    failed to resolve reference \\\"docker.io/library/x:1\\\": dial tcp: lookup registry-1.docker.io: no such host\"\n";
        let output = ExecOutput { exit_code: 1, stdout: Vec::new(), stderr: line.into() };
        let error = not_pulled("a", &"x:1".parse().unwrap(), &output);
        assert_eq!(error.cause(), Some("dial tcp: lookup registry-1.docker.io: no such host"));
        assert_eq!(error.code(), Code::ImageMissing);
    }

    #[test]
    fn a_failed_pull_has_a_hint() {
        let hints = |image: &str, line: &str| {
            let output = ExecOutput { exit_code: 1, stdout: Vec::new(), stderr: line.into() };
            not_pulled("a", &image.parse().unwrap(), &output).hints().join("; ")
        };
        let denied = "pull access denied, repository does not exist or may require authorization";
        assert!(hints("a.example/x:1", "401 Unauthorized").starts_with("log in: `docker login a.example`"));
        assert!(hints("x:1", denied).starts_with("log in: `docker login`, then `coracle registry login docker.io`"));
        assert!(hints("a.example/x:1", "connection refused").starts_with("if this"));
        let lookup =
            "Head \"http://mine.coracle.internal:5000/v2/\": dial tcp: lookup mine.coracle.internal: no such host";
        let start = "start the registry: `coracle registry create --name mine`";
        assert!(hints("localhost:5001/x:1", lookup).starts_with(start));
        assert!(hints("localhost:5001/x:1", "connection refused").starts_with("the node has no registry"));
    }

    #[test]
    fn what_is_downloaded_stays_counted() {
        let mut seen = BTreeMap::new();
        note(&mut seen, "a/ 10 100\nb/ 5 50\nc/ 7 \nd/  \n");
        assert_eq!(seen.values().map(|(done, _)| done).sum::<u64>(), 22);
        note(&mut seen, "b/ 20 50\n");
        assert_eq!(seen["a/"], (100, 100));
        assert_eq!(seen["b/"], (20, 50));
        note(&mut seen, "");
        assert_eq!(seen.values().map(|(done, _)| done).sum::<u64>(), 157);
    }
}
