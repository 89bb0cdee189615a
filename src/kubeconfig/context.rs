//! What the kubeconfig says about a context.

use std::path::PathBuf;

use super::document::{self, split_mark};
use super::{Location, file};
use crate::yaml::outline::{Kind, Node, parse_first};

/// The namespace of a context, if it has one; the first file that has the context counts, as for kubectl.
pub fn namespace(location: &Location, context: &str) -> Option<String> {
    let mut texts = location.files().iter().filter_map(|path| file::read(path).ok()?);
    texts.find_map(|text| namespace_in(&text, context)).filter(|name| !name.is_empty())
}

/// The files that exist, if kubectl can read all of them and finds a context there that is for the cluster and the
/// user of its own name.
pub fn files_with_own(location: &Location, context: &str) -> Option<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut own = None;
    // What can be read only once is left to whoever it is for.
    for path in location.files().iter().filter(|path| !file::is_stream(path)) {
        let Some(text) = file::read(path).ok()? else { continue };
        document::lists_with(&text, "").ok()?;
        own = own.or_else(|| is_own(&text, context));
        files.push(std::path::absolute(path).ok()?);
    }
    own.filter(|own| *own).map(|_| files)
}

/// Whether a context is for the cluster and the user of its own name; `None` if the file does not have it.
fn is_own(text: &str, name: &str) -> Option<bool> {
    in_context(text, name, |anchors, context| {
        let refers = |key| context.and_then(|context| anchors.get(context, key)).and_then(Node::text) == Some(name);
        refers("cluster") && refers("user")
    })
}

/// The namespace of a context in one file, empty if it has none; `None` if the file does not have the context.
fn namespace_in(text: &str, context: &str) -> Option<String> {
    in_context(text, context, |anchors, context| {
        let namespace = context.and_then(|context| anchors.get(context, "namespace"));
        namespace.filter(|node| !node.is_null()).and_then(Node::text).unwrap_or_default().to_owned()
    })
}

/// What `read` finds in the context of this name; `None` if the file does not have it.
fn in_context<T>(text: &str, name: &str, read: impl Fn(&Anchors<'_>, Option<&Node>) -> T) -> Option<T> {
    let (_, body) = split_mark(text);
    // It is for kubectl to complain about a file that cannot be understood.
    let root = parse_first(body).ok()??;
    let anchors = Anchors::of(&root);
    let list = anchors.get(&root, "contexts")?;
    let is_it = |item: &&Node| anchors.get(item, "name").and_then(Node::text) == Some(name);
    let item = list.items().iter().filter_map(|item| anchors.follow(item)).find(is_it)?;
    Some(read(&anchors, anchors.get(item, "context")))
}

/// The nodes of a text that have an anchor, in its order.
struct Anchors<'root>(Vec<(&'root str, &'root Node)>);

impl<'root> Anchors<'root> {
    fn of(root: &'root Node) -> Self {
        let mut found = Self(Vec::new());
        found.collect(root);
        found
    }

    fn collect(&mut self, node: &'root Node) {
        if let Some(anchor) = node.properties.as_ref().and_then(|properties| properties.anchor.as_deref()) {
            self.0.push((anchor, node));
        }
        node.items().iter().for_each(|item| self.collect(item));
        for (key, value) in node.pairs() {
            self.collect(key);
            self.collect(value);
        }
    }

    /// The node that `node` stands for. It is before an alias in the text, and so nothing goes round in circles.
    fn follow(&self, node: &'root Node) -> Option<&'root Node> {
        let Kind::Alias(name) = &node.kind else { return Some(node) };
        let is_before = |target: &Node| target.span.end <= node.span.start;
        self.0.iter().rev().find(|(anchor, target)| anchor == name && is_before(target)).map(|(_, target)| *target)
    }

    /// The value of `key` in a mapping, or in those that it merges with `<<`.
    fn get(&self, node: &'root Node, key: &str) -> Option<&'root Node> {
        let mapping = self.follow(node)?;
        if let Some(value) = mapping.get(key) {
            return self.follow(value);
        }
        let merged = self.follow(mapping.get("<<")?)?;
        match &merged.kind {
            Kind::Sequence { items, .. } => items.iter().find_map(|item| self.get(item, key)),
            _ => self.get(merged, key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_with_the_context_counts() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let context =
            |name: &str, namespace: &str| format!("contexts: [{{name: {name}, context: {{cluster: a{namespace}}}}}]\n");
        let files = [
            directory.path().join("missing"),
            write("broken", "a: [b"),
            write("latin1", "").with_file_name("not-utf8"),
            write("empty", ""),
            write("list", "[]"),
            write("one", &context("one", ", namespace: first")),
            write("two", &(context("two", ""))),
            write("again", &(context("one", ", namespace: second") + "---\n" + &context("two", ", namespace: second"))),
            write("last", &context("two", ", namespace: last")),
        ];
        std::fs::write(&files[2], b"\xff").unwrap();
        let list = std::env::join_paths(&files).unwrap();
        let location = Location::new(None, Some(&list), None).unwrap();
        assert_eq!(namespace(&location, "one").as_deref(), Some("first"));
        assert_eq!(namespace(&location, "two"), None);
        assert_eq!(namespace(&location, "three"), None);
    }

    #[test]
    fn a_context_counts_only_where_it_is_for_its_own_cluster() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let context = |cluster: &str| format!("contexts: [{{name: a, context: {{cluster: {cluster}, user: a}}}}]\n");
        std::fs::write(path("own"), context("a")).unwrap();
        std::fs::write(path("foreign"), context("production")).unwrap();
        std::fs::write(path("other"), "contexts: [{name: b}]\n").unwrap();
        std::fs::write(path("broken"), "contexts: {}\n").unwrap();
        let found = |names: &[&str]| {
            let list = std::env::join_paths(names.iter().map(|name| path(name))).unwrap();
            files_with_own(&Location::new(None, Some(&list), None).unwrap(), "a")
        };
        assert_eq!(found(&["other", "missing", "own", "foreign"]), Some(["other", "own", "foreign"].map(path).into()));
        // kubectl takes the first, and so would speak to another cluster; nor does it read on after a broken file.
        for names in [&["foreign", "own"][..], &["own", "broken"], &["other"], &["missing"]] {
            assert_eq!(found(names), None, "{names:?}");
        }
    }

    #[test]
    fn a_file_is_read_as_kubectl_reads_it() {
        let found = |text: &str| namespace_in(text, "a");
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(found("\u{feff}contexts:\r\n- context: {namespace: one}\r\n  name: a\r\n"), some("one"));
        assert_eq!(found("{\"contexts\": [{\"name\": \"a\", \"context\": {\"namespace\": \"one\"}}]}"), some("one"));
        // The last of several keys counts.
        let repeated = "contexts: []\ncontexts:\n- name: b\n  name: a\n  context: {namespace: two, namespace: one}\n";
        assert_eq!(found(repeated), some("one"));
        // Aliases and merge keys stand for what is before them.
        assert_eq!(found("x: &x {namespace: one}\ncontexts:\n- {name: &n a, context: *x}\n"), some("one"));
        assert_eq!(found("x: &x [{name: a, context: {namespace: one}}]\ny: &x []\ncontexts: *x\n"), None);
        let merged =
            "x: &x {namespace: one}\ny: &y {context: {<<: [{}, *x], cluster: c}}\ncontexts: [{<<: *y, name: a}]\n";
        assert_eq!(found(merged), some("one"));
        assert_eq!(found("contexts: &c [{name: a, context: {<<: *c, namespace: one}}]\n"), some("one"));
        assert_eq!(found("contexts: &c [{name: a, context: {<<: *c}}]\n"), some(""));
        for text in [
            "contexts: [{name: a}]",
            "contexts: [{name: a, context: {namespace: ''}}]",
            "contexts: [{name: a, context: {namespace: }}]",
        ] {
            assert_eq!(found(text), some(""), "{text}");
        }
        for text in
            ["", "contexts:", "contexts: {name: a}", "contexts: [a, {name: [a]}, {name: b}]", "a: \"", "[ !!str, a]"]
        {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
