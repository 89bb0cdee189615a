//! What a node gets back whose Node object was deleted: the labels that its kubelet may not set, and its pod subnets. Pure.

use coracle_shared::paths::NODE_REGISTRATION;
use serde_json::{Map, Value, json};

use crate::error::{Code, Error, Result};
use crate::plan::files::FileTree;
use crate::plan::layout::{Layout, NodeLayout};
use crate::plan::node::kubelet;

/// Adds what the agent restores.
pub(crate) fn files(files: &mut FileTree, layout: &Layout, node: &NodeLayout) -> Result<()> {
    let mut labels: Map<String, Value> = Map::new();
    labels.insert("kubernetes.io/hostname".to_owned(), json!(node.name));
    labels.extend(kubelet::node_labels(layout, node).into_iter().map(|(key, value)| (key, json!(value))));
    files.text(NODE_REGISTRATION, text(&json!({"labels": labels, "podCIDRs": node.pod_cidrs}))?);
    Ok(())
}

fn text(registration: &Value) -> Result<String> {
    let text = serde_json::to_string_pretty(registration);
    let text = text.map_err(|source| {
        Error::new(Code::StepFailed, "cannot write the registration of a node").with_cause(&source)
    })?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::layout::tests::layout;

    #[test]
    fn the_agent_knows_what_the_kubelet_may_not_set() {
        let mut layout = layout(1, 1);
        layout.nodes[1].config.labels.insert("node-role.kubernetes.io/x".to_owned(), "a".to_owned());
        let mut tree = FileTree::default();
        files(&mut tree, &layout, &layout.nodes[1]).unwrap();
        let file = tree.get(NODE_REGISTRATION).unwrap().content().unwrap();
        let registration: Value = serde_json::from_str(file).unwrap();
        assert_eq!(registration["labels"]["node-role.kubernetes.io/x"], "a");
        assert_eq!(registration["podCIDRs"], json!(["10.244.1.0/24"]));
    }
}
