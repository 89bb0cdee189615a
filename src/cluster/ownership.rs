//! Refuses names that something has already: what coracle did not make is never mounted, written, stopped or removed.

use crate::engine::Engine;
use crate::engine::spec::Labels;
use crate::error::{Code, Error, Result, counted};
use crate::plan::ownership::{Kind, Names, Owner, Taken};

/// The hint where the user chooses the name.
pub(super) const OTHER_NAME: Option<&str> = Some("choose another `--name`");

/// Fails with `code` if something has one of the names, unless `is_own` says that it is what they are for.
pub(super) async fn require_free(
    engine: &dyn Engine,
    names: &Names,
    (code, hint): (Code, Option<&str>),
    is_own: impl Fn(&Labels) -> bool,
) -> Result<()> {
    let (containers, volumes) = (engine.containers(&[]).await?, engine.volumes(&[]).await?);
    let taken = names.taken(containers, volumes, engine.networks().await?);
    let taken: Vec<Taken> = taken.into_iter().filter(|taken| !is_own(&taken.labels)).collect();
    let Some(first) = taken.first() else { return Ok(()) };
    let mut error = Error::new(code, first.to_string());
    if taken.len() > 1 {
        error = error
            .because(format!("{} use names that the cluster needs", counted(taken.len(), "thing")))
            .with_lines(taken.iter().map(ToString::to_string));
    }
    Err(error.with_hints(hint).with_hints(removals(&taken)))
}

/// How each of them is removed, if it is not needed any more.
fn removals(taken: &[Taken]) -> Vec<String> {
    let mut hints = Vec::new();
    for kind in [Kind::Container, Kind::Volume, Kind::Network] {
        let foreign = taken.iter().filter(|taken| taken.kind == kind && taken.owner.is_none());
        let names: Vec<&str> = foreign.map(|taken| taken.name.as_str()).collect();
        if !names.is_empty() {
            let (command, what) = match kind {
                Kind::Container => ("docker rm --force", "what is not needed any more"),
                Kind::Volume => ("docker volume rm", "what is not needed any more, with all contents"),
                Kind::Network => ("docker network rm", "what is not needed any more"),
            };
            hints.push(format!("remove {what}: `{command} {}`", names.join(" ")));
        }
    }
    for owner in taken.iter().filter_map(|taken| taken.owner.as_ref()) {
        let hint = match owner {
            Owner::Cluster(name) => format!("delete that cluster: `coracle delete cluster --name {name}`"),
            Owner::Registry(name) => format!("delete that registry: `coracle registry delete --name {name}`"),
            Owner::Helper => "try again when that command has ended".to_owned(),
        };
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    hints
}

#[cfg(test)]
#[path = "ownership_tests.rs"]
mod tests;
