//! Removing what no tag of a registry refers to.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::cluster::registry::known::{Found, find, name_option, paused};
use crate::engine::Engine;
use crate::engine::files;
use crate::engine::spec::{ExecOutput, State};
use crate::error::{Code, Error, Result};
use crate::plan::beside::registry::{COLLECT, blob};

/// How many sizes are read at the same time.
const MAX_PARALLEL: usize = 8;

/// What was removed, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Layers, configurations and manifests.
    pub blobs: u64,
    /// Images.
    pub images: u64,
    /// Bytes that are free now.
    pub freed: u64,
}

/// What the registry's program reports that it removes.
#[derive(Debug, PartialEq, Eq)]
struct Collected {
    images: u64,
    digests: Vec<String>,
}

/// Removes untagged images, and layers of no image. A push at the same time can lose a layer. With `dry_run` it only
/// reports what would be removed.
pub async fn prune(engine: &dyn Engine, name: &str, dry_run: bool) -> Result<Pruned> {
    let found = find(engine, name).await?.ok_or_else(|| {
        Error::new(Code::NotFound, format!("registry `{name}` does not exist"))
            .hint("`coracle registry list` lists the registries")
    })?;
    if found.state == State::Paused {
        return Err(paused(name));
    }
    if found.state != State::Running {
        return Err(Error::new(Code::StepFailed, format!("cannot prune registry `{name}`"))
            .because(format!("it does not run: its container is {}", found.state))
            .hint(format!("start it: `coracle registry create{}`", name_option(name))));
    }
    // The program does not report sizes, and afterwards they cannot be read any more.
    let planned = collect(engine, &found, true).await?;
    let sizes = sizes(engine, &found.container.id, &planned.digests).await?;
    let removed = if dry_run || planned.digests.is_empty() { planned } else { collect(engine, &found, false).await? };
    Ok(Pruned {
        blobs: removed.digests.len() as u64,
        images: removed.images,
        freed: removed.digests.iter().filter_map(|digest| sizes.get(digest)).sum(),
    })
}

/// Runs the registry's own garbage collection.
async fn collect(engine: &dyn Engine, found: &Found, dry_run: bool) -> Result<Collected> {
    let command: Vec<&str> = COLLECT.iter().copied().chain(dry_run.then_some("--dry-run")).collect();
    let output = engine.exec(&found.container.id, &command, None).await?;
    read(&output).map_err(|cause| {
        Error::new(Code::StepFailed, format!("cannot prune registry `{}`", found.registry.name)).because(cause)
    })
}

/// Sizes of blobs.
async fn sizes(engine: &dyn Engine, container: &str, digests: &[String]) -> Result<BTreeMap<String, u64>> {
    let size = async |digest: &String| {
        let size = files::file_size(engine, container, &blob(digest)).await?;
        Ok::<_, Error>((digest.clone(), size.unwrap_or_default()))
    };
    stream::iter(digests.iter().map(size)).buffer_unordered(MAX_PARALLEL).try_collect().await
}

/// The line `6 blobs marked, 2 blobs and 1 manifests eligible for deletion`, and one with the digest for each blob.
fn read(output: &ExecOutput) -> Result<Collected, String> {
    let text = String::from_utf8_lossy(&output.stdout);
    if output.exit_code != 0 {
        let text = [text, String::from_utf8_lossy(&output.stderr)].concat();
        // Nothing has ever been pushed.
        if text.contains("Path not found: /docker/registry/v2/repositories") {
            return Ok(Collected { images: 0, digests: Vec::new() });
        }
        return Err(text.lines().last().unwrap_or_default().to_owned());
    }
    let sum = text.lines().find_map(|line| line.split_once(" blobs marked, ")).map(|(_, rest)| rest);
    let images = sum.and_then(|rest| rest.split_whitespace().filter_map(|word| word.parse().ok()).nth(1));
    let images = images.ok_or("its output does not report what it removes")?;
    let digests = text.lines().filter_map(|line| line.strip_prefix("blob eligible for deletion: "));
    Ok(Collected { images, digests: digests.map(|digest| digest.trim().to_owned()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(exit_code: i64, text: &str) -> ExecOutput {
        ExecOutput { exit_code, stdout: text.into(), stderr: Vec::new() }
    }

    #[test]
    fn the_programs_output_is_read() {
        let text = "team/app\n\n6 blobs marked, 2 blobs and 1 manifests eligible for deletion\n\
                    blob eligible for deletion: sha256:aa\nblob eligible for deletion: sha256:bb\n";
        let collected = Collected { images: 1, digests: vec!["sha256:aa".to_owned(), "sha256:bb".to_owned()] };
        assert_eq!(read(&output(0, text)), Ok(collected));
        assert!(read(&output(0, "")).is_err());
        let empty = "failed to garbage collect: Path not found: /docker/registry/v2/repositories\n";
        assert_eq!(read(&output(1, empty)), Ok(Collected { images: 0, digests: Vec::new() }));
        assert_eq!(read(&output(1, "a\nno space\n")), Err("no space".to_owned()));
    }
}
