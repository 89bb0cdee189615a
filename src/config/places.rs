//! Where the fields of a configuration stand in its file, for problems that only the host or the engine can find.

use std::collections::BTreeMap;

use crate::error::Problem;

/// The place of each field of the file, by its path in the loaded configuration, such as `nodes[0].extraMounts[1].hostPath`.
#[derive(Debug, Clone, Default)]
pub struct Places(BTreeMap<String, Problem>);

impl PartialEq for Places {
    /// Where something stands is no part of what it says: two configurations that say the same are equal.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Places {
    pub(super) fn new(places: BTreeMap<String, Problem>) -> Self {
        Self(places)
    }

    /// A problem at the place of this path, or at that of its closest parent in the file.
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        let parents = path.rmatch_indices(['.', '[']).map(|(end, _)| &path[..end]);
        let found = std::iter::once(path).chain(parents).find_map(|path| self.0.get(path)).cloned();
        let nowhere = || Problem { place: path.to_owned(), message: String::new(), snippet: None };
        Problem { message: message.into(), ..found.unwrap_or_else(nowhere) }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, load};

    const TEXT: &str = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes:\n- role: control-plane\n- role: worker\n  \
                        extraMounts:\n  - {hostPath: /a, containerPath: /a}\n";

    #[test]
    fn a_field_is_found_where_it_stands_also_when_flags_change_the_nodes() {
        let overrides = Overrides { control_planes: Some(3), ..Overrides::default() };
        let cluster = load(TEXT, "c.yaml", &overrides).unwrap();
        let problem = cluster.places.problem("nodes[3].extraMounts[0].hostPath", "is wrong");
        assert_eq!((problem.place.as_str(), problem.message.as_str()), ("c.yaml:7:16", "is wrong"));
        assert_eq!(problem.snippet.unwrap().text, "  - {hostPath: /a, containerPath: /a}");
        // A field that the file does not have is wrong where it could stand, and one of no file at its name.
        assert_eq!(cluster.places.problem("nodes[3].extraMounts[0].propagation", "").place, "c.yaml:7:5");
        assert_eq!(cluster.places.problem("networking.apiServerAddress", "").place, "networking.apiServerAddress");
    }
}
