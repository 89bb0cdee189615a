//! The last line of defence for other credentials: an edit is refused if anything but the one entry would
//! read differently after it.

use super::changes::{Changes, LISTS};
use super::edit::{is_entry, items_of, root_of};
use crate::yaml::outline::{Flaw, Node};

/// What belongs to the one entry.
pub(super) struct Own<'name> {
    /// The name of its items.
    pub(super) name: &'name str,
    /// Names of other contexts that lead to its cluster.
    pub(super) contexts: &'name [String],
}

impl Own<'_> {
    fn has_context(&self, name: &str) -> bool {
        name == self.name || self.contexts.iter().any(|context| context == name)
    }

    fn has(&self, list: &str, item: &Node) -> bool {
        is_entry(item, self.name) || (list == "contexts" && self.contexts.iter().any(|context| is_entry(item, context)))
    }
}

/// A kubeconfig, split into the one entry and everything else.
struct View<'root> {
    /// The pairs that are neither lists of entries nor the current context.
    rest: Vec<&'root (Node, Node)>,
    /// The other entries of each list.
    others: [Vec<&'root Node>; 3],
    /// How often each list contains the one entry.
    own: [usize; 3],
    current: Option<&'root Node>,
}

impl<'root> View<'root> {
    fn new(root: &'root Node, own: &Own<'_>) -> Result<Self, Flaw> {
        let special = |key: &Node| key.text().is_some_and(|key| key == "current-context" || LISTS.contains(&key));
        let rest = root.pairs().iter().filter(|(key, _)| !special(key)).collect();
        let mut view = Self { rest, others: Default::default(), own: [0; 3], current: root.get("current-context") };
        for (at, list) in LISTS.into_iter().enumerate() {
            let (of_entry, others): (Vec<_>, Vec<_>) =
                items_of(root, list)?.iter().partition(|item| own.has(list, item));
            view.own[at] = of_entry.len();
            view.others[at] = others;
        }
        Ok(view)
    }
}

/// Checks that `after` is `before` with the entry `own` added where `changes` says so, or removed everywhere
/// if there are no `changes`.
pub(super) fn prove(before: &str, after: &str, own: &Own<'_>, changes: Changes) -> Result<(), Flaw> {
    let refused = |at: usize| Flaw::new(at, "the file cannot be changed without changing other entries");
    let Some(new) = root_of(after).map_err(|_| refused(0))? else { return Err(refused(0)) };
    let new = View::new(&new, own).map_err(|_| refused(0))?;
    let old_root = root_of(before)?;
    if let Some(old_root) = &old_root {
        let old = View::new(old_root, own)?;
        let rest_is_same = old.rest.len() == new.rest.len()
            && old.rest.iter().zip(&new.rest).all(|(old, new)| old.0.same(&new.0) && old.1.same(&new.1));
        if !rest_is_same {
            return Err(refused(old_root.span.start));
        }
        for (at, list) in LISTS.into_iter().enumerate() {
            let (a, b) = (&old.others[at], &new.others[at]);
            if a.len() != b.len() || !a.iter().zip(b).all(|(old, new)| old.same(new)) {
                return Err(refused(old_root.get(list).map_or(0, |list| list.span.start)));
            }
        }
        if !changes.current && !current_is_kept(old.current, new.current, own) {
            return Err(refused(old.current.map_or(0, |current| current.span.start)));
        }
    }
    let entry_is_right = (0..LISTS.len()).all(|at| match (changes.any(), changes.lists[at]) {
        (true, true) => new.own[at] == 1,
        (true, false) => true,
        (false, _) => new.own[at] == 0,
    });
    let current_is_right = !changes.current || new.current.and_then(Node::text) == Some(own.name);
    if entry_is_right && current_is_right { Ok(()) } else { Err(refused(0)) }
}

/// Whether the current context is unchanged, or was the removed entry and is now unset.
fn current_is_kept(old: Option<&Node>, new: Option<&Node>, own: &Own<'_>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            old.same(new) || (old.text().is_some_and(|name| own.has_context(name)) && new.text() == Some(""))
        }
        (None, None) => true,
        _ => false,
    }
}
