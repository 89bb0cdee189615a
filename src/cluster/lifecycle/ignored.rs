//! What containerd passes over in its configuration without failing: keys and plugins that it does not have.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::engine::Engine;

/// Prints what containerd says of keys that it does not know, then its plugins, a type and a name in each line.
const SCRIPT: &str = "journalctl --unit=containerd --no-pager --output=cat | grep 'Ignoring unknown key'; echo; \
                      ctr plugins ls | tail -n +2";

/// Warnings about what a node's containerd does not take of the `containerd` that the user has written; none if it cannot be
/// asked.
pub(super) async fn warnings(engine: &dyn Engine, node: &str, patch: &Value) -> Vec<String> {
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return Vec::new();
    }
    match engine.exec(node, &["sh", "-c", SCRIPT], None).await {
        Ok(output) => of_output(&String::from_utf8_lossy(&output.stdout), patch),
        Err(_) => Vec::new(),
    }
}

fn of_output(output: &str, patch: &Value) -> Vec<String> {
    let (said, plugins) = output.split_once("\n\n").unwrap_or(("", output));
    let mut keys: BTreeSet<String> = BTreeSet::new();
    for line in said.lines() {
        let value = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let Some(key) = value("key") else { continue };
        keys.insert(match value("plugin") {
            Some(plugin) => format!("`{key}` of the plugin `{plugin}`"),
            None => format!("`{key}`"),
        });
    }
    let words = plugins.lines().map(|line| line.split_whitespace());
    let known: BTreeSet<String> =
        words.filter_map(|mut words| Some(format!("{}.{}", words.next()?, words.next()?))).collect();
    let wanted = patch["plugins"].as_object().into_iter().flatten().map(|(name, _)| name);
    if !known.is_empty() {
        keys.extend(wanted.filter(|name| !known.contains(*name)).map(|name| format!("the plugin `{name}`")));
    }
    keys.into_iter()
        .map(|key| format!("containerd does not know {key}, and ignores it; correct `containerd`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_and_plugins_that_containerd_does_not_have_are_named() {
        let output = "time=\"x\" level=warning msg=\"Ignoring unknown key in TOML\" column=2 file=/etc/c.toml key=plugin row=41\n\
                      time=\"x\" level=warning msg=\"Ignoring unknown key in TOML for plugin\" key=max plugin=io.containerd.cri.v1.images\n\
                      \nio.containerd.cri.v1    images    -    ok\nio.containerd.cri.v1    runtime    linux    ok\n";
        let patch = json!({"plugins": {"io.containerd.cri.v1.images": {}, "io.containerd.cri.v1.imagess": {}}});
        let all = of_output(output, &patch);
        assert_eq!(all.len(), 3, "{all:?}");
        for part in [
            "know `max` of the plugin `io.containerd.cri.v1.images`",
            "know `plugin`,",
            "the plugin `io.containerd.cri.v1.imagess`",
        ] {
            assert!(all.iter().any(|line| line.contains(part)), "{part}: {all:?}");
        }
        assert!(
            of_output("\nio.containerd.cri.v1 images - ok\n", &json!({"plugins": {"io.containerd.cri.v1.images": 1}}))
                .is_empty()
        );
    }
}
