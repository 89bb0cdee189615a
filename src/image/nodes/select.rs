//! Which nodes are meant.

use crate::error::{Code, Error, Result};

/// The nodes that are named, or all. `Code::NotFound` when one does not belong to the cluster.
pub fn select_nodes(all: &[String], named: &[String]) -> Result<Vec<String>> {
    if named.is_empty() {
        return Ok(all.to_vec());
    }
    if let Some(name) = named.iter().find(|name| !all.contains(name)) {
        return Err(Error::new(Code::NotFound, format!("there is no node `{name}`"))
            .hint(format!("the nodes are: {}", all.join(", "))));
    }
    Ok(all.iter().filter(|node| named.contains(node)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_nodes_of_the_cluster_can_be_named() {
        let all = list(&["c-control-plane", "c-worker"]);
        assert_eq!(select_nodes(&all, &[]).unwrap(), all);
        assert_eq!(select_nodes(&all, &list(&["c-worker"])).unwrap(), ["c-worker"]);
        let error = select_nodes(&all, &list(&["worker"])).unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        assert_eq!(error.hints(), ["the nodes are: c-control-plane, c-worker"]);
    }
}
