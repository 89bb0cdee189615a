//! The network that nodes share with what users of kind connect there, such as a registry.

use crate::engine::Engine;
use crate::engine::spec::{Labels, NetworkSpec};
use crate::error::{Error, Result};
use crate::plan::labels;

/// Makes the network, unless there is one of this name, whoever made it. It stays when clusters go, as that of kind does:
/// others may be connected with it, or about to be.
pub(super) async fn ensure(engine: &dyn Engine, name: &str, mtu: Option<u32>) -> Result<()> {
    if !of_name(engine, name).await?.is_empty() {
        return Ok(());
    }
    let labels = Labels::from([(labels::KIND_NETWORK.to_owned(), String::new())]);
    let spec = NetworkSpec { name: name.to_owned(), pools: Vec::new(), mtu, labels };
    let made = match engine.create_network(&spec).await {
        Ok(made) => made,
        // Newer engines refuse a second one of the name.
        Err(_) if !of_name(engine, name).await?.is_empty() => return Ok(()),
        Err(error) => return Err(advised(error, name)),
    };
    // Older ones make it. Of two creates at once, both see both, and keep the same one.
    let first = of_name(engine, name).await?.into_iter().min();
    if first.is_some_and(|first| first != made) {
        engine.remove_network(&made).await?;
    }
    Ok(())
}

/// Connects a container that was just created with the networks that it joins.
pub(super) async fn join(engine: &dyn Engine, container: &str, name: &str, networks: &[String]) -> Result<()> {
    for network in networks {
        let joined = engine.connect_network(network, container, name, &[]).await;
        joined.map_err(|error| advised(error, network))?;
    }
    Ok(())
}

fn advised(error: Error, network: &str) -> Error {
    error.hint(format!(
        "`docker network ls --filter name={network}` shows whether there is one such network; nodes join it because of `kindNetwork`"
    ))
}

/// IDs of the networks of this name.
async fn of_name(engine: &dyn Engine, name: &str) -> Result<Vec<String>> {
    let networks = engine.networks().await?.into_iter();
    Ok(networks.filter(|network| network.name == name).map(|network| network.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeEngine;

    #[tokio::test]
    async fn the_network_of_someone_else_is_used_as_it_is() {
        let engine = FakeEngine::new(&["node"]);
        engine.put("network kind");
        ensure(&engine, "kind", None).await.unwrap();
        assert!(engine.made().is_empty());
        ensure(&engine, "other", None).await.unwrap();
        ensure(&engine, "other", None).await.unwrap();
        assert_eq!(engine.made(), ["network other"]);
    }
}
