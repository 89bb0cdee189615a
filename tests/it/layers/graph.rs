//! Which module uses which: every path in the sources, followed through imports and re-exports to where the item is defined.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, tokens};
use crate::sources::{read, root};

/// Names from the crate on. What a directory's `mod.rs` has itself counts as a module `mod.rs` beside its children.
pub(super) type Path = Vec<String>;

/// The name by which [`Path`] tells a `mod.rs` from its directory.
pub(super) const OWN: &str = "mod.rs";

/// One module uses an item of another one.
#[derive(Debug, Clone)]
pub(super) struct Use {
    pub(super) from: Path,
    pub(super) to: Path,
    /// File and line, and the path as it is written.
    pub(super) place: String,
    /// It only hands the item on: `pub use`.
    pub(super) is_export: bool,
}

/// A path in a source file.
struct Mention {
    path: Path,
    line: usize,
    is_export: bool,
}

#[derive(Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    /// What its imports and re-exports call by this name.
    imports: BTreeMap<String, Path>,
    mentions: Vec<Mention>,
}

/// The modules of a crate, by their path.
#[derive(Default)]
pub(super) struct Graph(BTreeMap<Path, Module>);

impl Graph {
    /// Of the crate that begins in this file, without modules that are for tests only.
    pub(super) fn of(file: &str) -> Self {
        let mut graph = Self::default();
        graph.add(&[], file.to_owned());
        graph
    }

    fn add(&mut self, path: &[String], file: String) {
        let tokens = tokens(&read(&file));
        let mut module = Module { file, ..Module::default() };
        let mut children = Vec::new();
        for (name, place) in declared(&tokens) {
            children.push((name.clone(), found(&module.file, path.last(), &name, place)));
            module.children.insert(name);
        }
        for (at, _) in tokens.iter().enumerate().filter(|(_, token)| token.text == "use" && !token.quoted) {
            let is_export = at > 0 && [")", "pub"].contains(&tokens[at - 1].text.as_str());
            let mut names = Vec::new();
            imported(&tokens, &mut (at + 1), &[], &mut names);
            for (name, path, line) in names {
                module.mentions.push(Mention { path: path.clone(), line, is_export });
                module.imports.insert(name, path);
            }
        }
        module.mentions.extend(inline(&tokens));
        self.0.insert(path.to_vec(), module);
        for (name, file) in children {
            self.add(&[path, &[name]].concat(), file);
        }
    }

    /// Every use of another module.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (path, module) in &self.0 {
            for mention in &module.mentions {
                let Some(to) = self.resolve(path, &mention.path, 0) else { continue };
                let place = format!("{}:{}: {}", module.file, mention.line, mention.path.join("::"));
                uses.push(Use { from: self.own(path), to, place, is_export: mention.is_export });
            }
        }
        uses.retain(|one| one.from != one.to);
        uses
    }

    /// The module as a place for items: a directory's `mod.rs` is not the whole directory.
    fn own(&self, path: &[String]) -> Path {
        let is_directory = path.is_empty() || !self.0[path].children.is_empty();
        path.iter().cloned().chain(is_directory.then(|| OWN.to_owned())).collect()
    }

    /// The module that defines what a path means in this module; none if it is of another crate.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<Path> {
        assert!(depth < 20, "{path:?} in {module:?} leads in a circle");
        let (first, mut rest) = path.split_first()?;
        let mut at = module.to_vec();
        match first.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()),
            _ if self.0[module].children.contains(first) => at.push(first.clone()),
            _ => {
                let import = self.0[module].imports.get(first).filter(|import| import.first() != Some(first))?;
                return self.resolve(module, &[import.as_slice(), rest].concat(), depth + 1);
            }
        }
        while let Some((name, after)) = rest.split_first() {
            let here = &self.0[&at];
            if name == "super" {
                at.pop();
            } else if here.children.contains(name) {
                at.push(name.clone());
            } else if let Some(import) = here.imports.get(name) {
                let path = [import.as_slice(), after].concat();
                return self.resolve(&at.clone(), &path, depth + 1);
            } else {
                break;
            }
            rest = after;
        }
        Some(self.own(&at))
    }
}

/// The child modules that a file declares, with the file that `#[path]` names.
fn declared(tokens: &[Token]) -> Vec<(String, Option<String>)> {
    let text = |at: usize| tokens.get(at).map_or("", |token| &token.text);
    let mut found = Vec::new();
    let mut place = None;
    for at in 0..tokens.len() {
        match text(at) {
            "path" if text(at + 1) == "=" => place = Some(text(at + 2).trim_matches('"').to_owned()),
            "mod" if text(at + 2) == ";" => found.push((text(at + 1).to_owned(), place.take())),
            "mod" => assert_ne!(text(at + 2), "{", "a module inside of a file is not understood: {}", text(at + 1)),
            ";" | "{" => place = None,
            _ => {}
        }
    }
    found
}

/// The file of a module that is declared in another file.
fn found(parent: &str, module: Option<&String>, name: &str, place: Option<String>) -> String {
    let (directory, file) = parent.rsplit_once('/').unwrap_or((".", parent));
    if let Some(place) = place {
        return format!("{directory}/{place}");
    }
    let directory = match module {
        Some(module) if file == format!("{module}.rs") => format!("{directory}/{module}"),
        _ => directory.to_owned(),
    };
    let places = [format!("{directory}/{name}.rs"), format!("{directory}/{name}/mod.rs")];
    places.into_iter().find(|place| root().join(place).is_file()).unwrap_or_else(|| panic!("{parent}: mod {name}"))
}

/// The names that a `use` brings, with what they stand for; `at` is behind the word.
fn imported(tokens: &[Token], at: &mut usize, before: &[String], names: &mut Vec<(String, Path, usize)>) {
    let mut path = before.to_vec();
    let mut line = tokens[*at].line;
    let mut name = None;
    while let Some(token) = tokens.get(*at) {
        match token.text.as_str() {
            "{" => {
                while !["}", ";"].contains(&tokens[*at].text.as_str()) {
                    *at += 1;
                    if tokens[*at].text != "}" {
                        imported(tokens, at, &path, names);
                    }
                }
                *at += 1;
                return;
            }
            "::" => {}
            "as" => {
                *at += 1;
                name = Some(tokens[*at].text.clone());
            }
            "," | "}" | ";" => break,
            word => {
                line = token.line;
                path.push(word.to_owned());
            }
        }
        *at += 1;
    }
    // `use a::b::{self, c}`; what `*` brings is not known, and counts as the module's own.
    let is_whole =
        path.len() > before.len() && ["self", "*"].contains(&path[path.len() - 1].as_str()) && path.len() > 1;
    if is_whole {
        path.pop();
    }
    if let Some(last) = path.last() {
        names.push((name.unwrap_or_else(|| last.clone()), path, line));
    }
}

/// Paths outside of `use`.
fn inline(tokens: &[Token]) -> Vec<Mention> {
    let is_word = |at: usize| {
        tokens
            .get(at)
            .is_some_and(|token| !token.quoted && token.text.starts_with(|c: char| c.is_alphabetic() || c == '_'))
    };
    let is_join = |at: usize| tokens.get(at).is_some_and(|token| token.text == "::");
    let (mut mentions, mut at, mut imports) = (Vec::new(), 0, false);
    while at < tokens.len() {
        imports = tokens[at].text == "use" && !tokens[at].quoted || imports && tokens[at].text != ";";
        let begins = !imports && is_word(at) && is_join(at + 1) && (at == 0 || !is_join(at - 1));
        let mut path = Vec::new();
        let line = tokens[at].line;
        if begins {
            path.push(tokens[at].text.clone());
            while is_join(at + 1) && is_word(at + 2) {
                path.push(tokens[at + 2].text.clone());
                at += 2;
            }
            mentions.push(Mention { path, line, is_export: false });
        }
        at += 1;
    }
    mentions
}
