//! Removing what no tag of a registry leads to any more.

use super::{Found, find};
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::plan::registry::COLLECT;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Layers, configurations and manifests.
    pub blobs: u64,
    /// Images.
    pub manifests: u64,
}

/// Removes images without a tag, and layers of no image. A push at the same time can lose a layer.
pub async fn prune(engine: &dyn Engine, name: &str) -> Result<Pruned> {
    let found = find(engine, name).await?.ok_or_else(|| {
        Error::new(Code::NotFound, format!("there is no registry `{name}`")).hint("`coracle registry list` shows them")
    })?;
    let failed = || Error::new(Code::StepFailed, format!("cannot prune registry `{name}`"));
    let Found { container, .. } = found;
    let output = engine.exec(&container.id, COLLECT, None).await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.exit_code != 0 {
        let said = [said, String::from_utf8_lossy(&output.stderr).into_owned()].concat();
        // Nothing was ever pushed.
        if said.contains("Path not found: /docker/registry/v2/repositories") {
            return Ok(Pruned::default());
        }
        return Err(failed().because(said.lines().last().unwrap_or_default()));
    }
    read(&said).ok_or_else(|| failed().because("it does not say what it removed"))
}

/// The line `6 blobs marked, 2 blobs and 1 manifests eligible for deletion`.
fn read(said: &str) -> Option<Pruned> {
    let line = said.lines().find(|line| line.contains("eligible for deletion") && line.contains("blobs marked"))?;
    let (_, rest) = line.split_once(", ")?;
    let mut numbers = rest.split_whitespace().filter_map(|word| word.parse().ok());
    Some(Pruned { blobs: numbers.next()?, manifests: numbers.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_own_count_is_told() {
        let said = "team/app\n\n6 blobs marked, 2 blobs and 1 manifests eligible for deletion\nblob eligible for deletion: x\n";
        assert_eq!(read(said), Some(Pruned { blobs: 2, manifests: 1 }));
        assert_eq!(read(""), None);
    }
}
