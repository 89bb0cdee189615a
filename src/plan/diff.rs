//! The files of each node that change from one plan to another, or from what a node has to a plan. Pure.

use std::collections::BTreeSet;
use std::fmt;

use crate::plan::files::{File, FileTree, NodePlan};

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Added,
    /// Its content, its mode or its target changes.
    Changed,
    /// It is removed.
    Removed,
}

/// One file of one node that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The node.
    pub node: String,
    /// The absolute path of the file.
    pub path: String,
    /// What happens to it.
    pub kind: Kind,
    /// What it is, if it is a certificate or a secret, whose content is never shown.
    pub subject: Option<String>,
}

/// All changes, ordered by node as in the plans, then by path. Its text has one line for each node and for each file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(Vec<Change>);

impl Changes {
    /// The changes from one plan to another; a node that is in only one of them gains or loses all of its files.
    pub fn of_plans(before: &[NodePlan], after: &[NodePlan]) -> Self {
        let none = FileTree::default();
        let files = |nodes: &'_ [NodePlan], name: &str| nodes.iter().position(|node| node.spec.name == name);
        let mut all = Vec::new();
        for node in before {
            let new = files(after, &node.spec.name).map_or(&none, |index| &after[index].files);
            all.extend(Self::of_node(&node.spec.name, &node.files, new).0);
        }
        for node in after.iter().filter(|node| files(before, &node.spec.name).is_none()) {
            all.extend(Self::of_node(&node.spec.name, &none, &node.files).0);
        }
        Self(all)
    }

    /// The changes of one node.
    ///
    /// Each plan issues its certificates, keys and kubeconfigs again, so these count as changed only if their origin differs,
    /// such as the names in a certificate. Only plans know the origin; files read from a node are compared by content.
    pub fn of_node(node: &str, before: &FileTree, after: &FileTree) -> Self {
        let paths: BTreeSet<&str> = before.iter().chain(after.iter()).map(|(path, _)| path).collect();
        let change = |path: &str| {
            let (old, new) = (before.get(path), after.get(path));
            let kind = match (old, new) {
                (None, _) => Kind::Added,
                (_, None) => Kind::Removed,
                (Some(old), Some(new)) if is_same(old, new) => return None,
                _ => Kind::Changed,
            };
            let subject = new.and_then(subject).or_else(|| old.and_then(subject));
            Some(Change { node: node.to_owned(), path: path.to_owned(), kind, subject })
        };
        Self(paths.into_iter().filter_map(change).collect())
    }

    /// The changes, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.0.iter()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether the old file can stay in place of the new one.
fn is_same(old: &File, new: &File) -> bool {
    match (old, new) {
        (File::Certificate { origin: old, .. }, File::Certificate { origin: new, .. })
        | (File::Secret { origin: old, .. }, File::Secret { origin: new, .. })
        | (File::Link { target: old }, File::Link { target: new }) => old == new,
        _ => old.content().is_some() && old.content() == new.content() && old.mode() == new.mode(),
    }
}

/// A description of a file whose content must not be shown.
fn subject(file: &File) -> Option<String> {
    match file {
        File::Certificate { subject, .. } => Some(format!("certificate {subject}")),
        File::Secret { subject, .. } => Some(format!("secret: {subject}")),
        File::Text { .. } | File::Link { .. } => None,
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            Kind::Added => '+',
            Kind::Changed => '~',
            Kind::Removed => '-',
        };
        write!(f, "{sign} {}", self.path)?;
        self.subject.as_ref().map_or(Ok(()), |subject| write!(f, " ({subject})"))
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut node = None;
        for change in &self.0 {
            if node.replace(&change.node) != Some(&change.node) {
                writeln!(f, "{}:", change.node)?;
            }
            writeln!(f, "  {change}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::spec::ContainerSpec;
    use crate::plan::pki::{Pki, Usage};

    fn tree(files: &[(&str, &str)]) -> FileTree {
        let mut tree = FileTree::default();
        for (path, content) in files {
            tree.text(*path, *content);
        }
        tree
    }

    fn node(name: &str, files: FileTree) -> NodePlan {
        NodePlan { spec: ContainerSpec::new(name, "image"), files }
    }

    #[test]
    fn added_changed_and_removed_files_are_listed_by_node_and_path() {
        let before =
            [node("a", tree(&[("/same", "1"), ("/text", "1"), ("/old", "1")])), node("gone", tree(&[("/x", "")]))];
        let after =
            [node("new", tree(&[("/y", "")])), node("a", tree(&[("/text", "2"), ("/same", "1"), ("/made", "1")]))];
        let changes = Changes::of_plans(&before, &after);
        assert_eq!(changes.to_string(), "a:\n  + /made\n  - /old\n  ~ /text\ngone:\n  - /x\nnew:\n  + /y\n");
        assert_eq!(changes.iter().filter(|change| change.kind == Kind::Changed).count(), 1);
        assert!(Changes::of_plans(&before, &before).is_empty());
    }

    #[test]
    fn a_mode_and_a_target_are_changes_too() {
        let (mut before, mut after) = (tree(&[("/mode", "1")]), FileTree::default());
        before.link("/link", "/a");
        before.link("/file", "/a");
        after.private("/mode", "1");
        after.link("/link", "/b");
        after.text("/file", "/a");
        assert_eq!(Changes::of_node("n", &before, &after).to_string(), "n:\n  ~ /file\n  ~ /link\n  ~ /mode\n");
    }

    #[test]
    fn a_secret_is_listed_by_its_name_only() {
        let (mut before, mut after) = (tree(&[("/b", "hunter1")]), FileTree::default());
        before.secret("/a", "hunter2", "password", "1");
        after.secret("/a", "hunter3", "password", "2");
        after.secret("/b", "hunter4", "token", "1");
        let changes = Changes::of_node("n", &before, &after);
        assert_eq!(changes.to_string(), "n:\n  ~ /a (secret: password)\n  ~ /b (secret: token)\n");
        assert!(!format!("{changes:?}").contains("hunter"));
    }

    #[test]
    fn what_is_issued_again_is_no_change_and_what_a_node_has_is_compared_by_content() {
        let pki = Pki::generate(time::OffsetDateTime::UNIX_EPOCH).unwrap();
        let issued = |name: &str| {
            let mut files = FileTree::default();
            pki.issue(&pki.kubernetes, "api", None, Usage::Server, &[name], &[]).unwrap().write(&mut files, "/api");
            files
        };
        let first = issued("a");
        assert!(Changes::of_node("n", &first, &issued("a")).is_empty());
        let changes = Changes::of_node("n", &first, &issued("b"));
        assert_eq!(
            changes.to_string(),
            "n:\n  ~ /api.crt (certificate CN=api)\n  ~ /api.key (secret: key of CN=api)\n"
        );
        let mut disk = FileTree::default();
        for (path, file) in first.iter() {
            let content = file.content().unwrap();
            if file.mode() == 0o600 { disk.private(path, content) } else { disk.text(path, content) }
        }
        assert!(Changes::of_node("n", &disk, &first).is_empty());
        assert_eq!(Changes::of_node("n", &disk, &issued("a")).iter().count(), 2);
    }
}
