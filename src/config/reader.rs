//! Typed access to a tree that reports every problem and continues.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::places::Places;
use super::tree;
use super::value::{Mark, Node, Value, quoted};
use crate::error::{Problem, Snippet, closest};
use crate::yaml::manifest;

/// How fields with patches for kubeadm begin.
const PATCHES: &str = "kubeadmConfigPatches";

/// A value of the tree and its path, such as `nodes[0].image`.
#[derive(Debug, Clone)]
pub(super) struct Field<'t> {
    pub(super) node: &'t Node,
    /// The path from the root.
    pub(super) path: String,
    /// What messages call it.
    pub(super) name: String,
}

impl<'t> Field<'t> {
    pub(super) fn root(node: &'t Node) -> Self {
        Self { node, path: String::new(), name: "the configuration".to_owned() }
    }
}

/// The known fields of one mapping.
pub(super) struct Fields<'t> {
    found: BTreeMap<&'t str, Field<'t>>,
    /// Patches for kubeadm, which files of kind have, with their names: the caller reports them.
    pub(super) patches: Vec<(&'t str, Field<'t>)>,
    /// Where the mapping begins.
    pub(super) mark: Mark,
}

impl<'t> Fields<'t> {
    /// The field of this name; one without a value counts as missing.
    pub(super) fn get(&self, name: &str) -> Option<&Field<'t>> {
        self.found.get(name).filter(|field| !matches!(field.node.value, Value::Null))
    }
}

/// Collects problems with their place while the tree is read.
pub(super) struct Reader<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    places: BTreeMap<String, Mark>,
    problems: Vec<(Option<Mark>, Problem)>,
}

impl<'a> Reader<'a> {
    /// A reader of `text`; problems call it `file`.
    pub(super) fn new(text: &'a str, file: &'a str) -> Self {
        Self { file, lines: text.lines().collect(), places: BTreeMap::new(), problems: Vec::new() }
    }

    /// Reports a problem at a place of the file.
    pub(super) fn problem(&mut self, mark: Mark, message: impl Into<String>) {
        let problem = self.at(mark, message.into());
        self.problems.push((Some(mark), problem));
    }

    /// Reports a problem with a command line flag.
    pub(super) fn flag_problem(&mut self, flag: &str, message: impl Into<String>) {
        let problem = Problem { place: flag.to_owned(), message: message.into(), snippet: None };
        self.problems.push((None, problem));
    }

    /// Reports a problem at a path, or at the closest parent of it that the file has.
    pub(super) fn problem_at(&mut self, path: &str, message: impl Into<String>) {
        let mut path = path;
        loop {
            if let Some(mark) = self.places.get(path).copied() {
                return self.problem(mark, message);
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => break,
            }
        }
        let problem = Problem { place: self.file.to_owned(), message: message.into(), snippet: None };
        self.problems.push((None, problem));
    }

    /// The place of each field; `nodes` has the index in the file of each node.
    pub(super) fn places(&self, nodes: &[Option<usize>]) -> Places {
        let mut places = BTreeMap::new();
        for (path, mark) in self.places.iter().filter(|(path, _)| !path.ends_with("#key")) {
            let now = match path.strip_prefix("nodes[").and_then(|rest| rest.split_once(']')) {
                Some((index, rest)) => {
                    let index = index.parse().ok();
                    let now = nodes.iter().position(|place| place.is_some() && *place == index);
                    now.map(|now| format!("nodes[{now}]{rest}"))
                }
                None => Some(path.clone()),
            };
            places.extend(now.map(|now| (now, self.at(*mark, String::new()))));
        }
        Places::new(places)
    }

    fn at(&self, mark: Mark, message: String) -> Problem {
        let snippet = self.lines.get(mark.line - 1).map(|text| Snippet {
            line: mark.line,
            column: mark.column,
            text: (*text).to_owned(),
        });
        Problem { place: format!("{}:{}:{}", self.file, mark.line, mark.column), message, snippet }
    }

    /// Whether the file has this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// All problems, those of flags first, then in the order of the text.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|(mark, _)| *mark);
        let mut problems: Vec<Problem> = Vec::new();
        for (_, problem) in self.problems {
            // What an alias or a merge key repeats is wrong only once.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems
    }

    /// The YAML that a string contains, with the places that it has in the file; `None` if there is none, or it is wrong.
    pub(super) fn embedded(&mut self, field: &Field<'_>) -> Option<Node> {
        let text = self.string(field)?.to_owned();
        match tree::parse(&text) {
            Ok(node) => {
                let mut node = node?;
                self.place(field, &text, &mut node);
                Some(node)
            }
            Err((mark, message)) => {
                let mark = self.outer(field, &text, mark);
                self.problem(mark, message);
                None
            }
        }
    }

    /// The place in the file of a byte of a string.
    pub(super) fn inside(&self, field: &Field<'_>, at: usize) -> Mark {
        let Value::Text(text, _) = &field.node.value else { return field.node.mark };
        self.outer(field, text, crate::yaml::places::Places::new(text).mark(at))
    }

    fn place(&self, field: &Field<'_>, text: &str, node: &mut Node) {
        node.mark = self.outer(field, text, node.mark);
        match &mut node.value {
            Value::List(items) => items.iter_mut().for_each(|item| self.place(field, text, item)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.mark = self.outer(field, text, entry.mark);
                    self.place(field, text, &mut entry.node);
                }
            }
            _ => {}
        }
    }

    /// Where a place in a string stands in the file, if the string is a block with the same lines; else where the string is.
    fn outer(&self, field: &Field<'_>, text: &str, inner: Mark) -> Mark {
        let line = field.node.mark.line + inner.line;
        let written = self.lines.get(line - 1).copied().unwrap_or_default();
        let meant = text.lines().nth(inner.line - 1).unwrap_or_default().trim_end();
        let Some(indent) = written.trim_end().strip_suffix(meant).filter(|before| before.trim().is_empty()) else {
            return field.node.mark;
        };
        Mark { line, column: indent.chars().count() + inner.column }
    }

    /// Reports a value of the wrong type.
    pub(super) fn wrong_type(&mut self, field: &Field<'_>, wanted: &str) {
        let message = format!("{} must be {wanted}, not {}", field.name, field.node.value.describe());
        self.problem(field.node.mark, message);
    }

    /// The known fields of a mapping; reports unknown and repeated ones, and what to use instead of those `elsewhere`.
    pub(super) fn fields<'t>(
        &mut self,
        field: &Field<'t>,
        known: &[&str],
        elsewhere: &[(&str, &str)],
    ) -> Option<Fields<'t>> {
        let (mut found, mut patches) = (BTreeMap::new(), Vec::new());
        for (entry, value) in self.entries(field)? {
            if known.contains(&entry) {
                found.insert(entry, value);
            } else if entry.starts_with(PATCHES) {
                patches.push((entry, value));
            } else if let Some((_, advice)) = elsewhere.iter().find(|(name, _)| *name == entry) {
                self.problem_at_key(&value, format!("coracle has no field {}; {advice}", quoted(entry)));
            } else {
                let message = match closest(entry, known.iter().copied()) {
                    Some(name) => format!("unknown field {}; did you mean `{name}`?", quoted(entry)),
                    None => format!("unknown field {}; the fields here are {}", quoted(entry), known.join(", ")),
                };
                self.problem_at_key(&value, message);
            }
        }
        Some(Fields { found, patches, mark: field.node.mark })
    }

    /// Reports a problem at the key of a field that [`Self::entries`] returned.
    pub(super) fn problem_at_key(&mut self, field: &Field<'_>, message: impl Into<String>) {
        let mark = self.places.get(&format!("{}#key", field.path)).copied().unwrap_or(field.node.mark);
        self.problem(mark, message);
    }

    /// The entries of a mapping with free keys, each key once.
    pub(super) fn entries<'t>(&mut self, field: &Field<'t>) -> Option<Vec<(&'t str, Field<'t>)>> {
        let Value::Map(entries) = &field.node.value else {
            self.wrong_type(field, "a mapping");
            return None;
        };
        let mut first: BTreeMap<&str, Mark> = BTreeMap::new();
        let mut all = Vec::new();
        for entry in entries {
            if let Some(mark) = first.get(entry.key.as_str()) {
                let message = format!("{} is already set on line {}", quoted(&entry.key), mark.line);
                self.problem(entry.mark, message);
                continue;
            }
            first.insert(&entry.key, entry.mark);
            let path = if field.path.is_empty() { entry.key.clone() } else { format!("{}.{}", field.path, entry.key) };
            self.places.insert(format!("{path}#key"), entry.mark);
            self.places.insert(path.clone(), entry.node.mark);
            all.push((entry.key.as_str(), Field { node: &entry.node, path, name: quoted(&entry.key) }));
        }
        Some(all)
    }

    /// The items of a list.
    pub(super) fn items<'t>(&mut self, field: &Field<'t>) -> Option<Vec<Field<'t>>> {
        let Value::List(items) = &field.node.value else {
            self.wrong_type(field, "a list");
            return None;
        };
        let mut all = Vec::new();
        for (index, node) in items.iter().enumerate() {
            let path = format!("{}[{index}]", field.path);
            self.places.insert(path.clone(), node.mark);
            all.push(Field { node, path, name: format!("item {} of {}", index + 1, field.name) });
        }
        Some(all)
    }

    /// A string. Unquoted words that YAML 1.1 (and so kubectl) reads as booleans are refused.
    pub(super) fn string<'t>(&mut self, field: &Field<'t>) -> Option<&'t str> {
        match &field.node.value {
            Value::Text(text, plain) if *plain && is_old_boolean(text) => {
                let message =
                    format!("kubectl reads an unquoted `{text}` as a boolean; write `\"{text}\"`, `true` or `false`");
                self.problem(field.node.mark, message);
                None
            }
            Value::Text(text, plain) => {
                if *plain && let Some(number) = manifest::number(text) {
                    let message =
                        format!("kubectl reads an unquoted `{text}` as the number {number}; put it in quotes");
                    self.problem(field.node.mark, message);
                    return None;
                }
                Some(text)
            }
            Value::Number(_, text) => {
                self.wrong_type(field, &format!("a string (write `\"{text}\"`)"));
                None
            }
            Value::Bool(value) => {
                self.wrong_type(field, &format!("a string (write `\"{value}\"`)"));
                None
            }
            _ => {
                self.wrong_type(field, "a string");
                None
            }
        }
    }

    /// A string that `parse` accepts; its error becomes the problem.
    pub(super) fn parsed<T>(&mut self, field: &Field<'_>, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.string(field)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(field.node.mark, message);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, field: &Field<'_>, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let one_of = format!("one of `{}`", words.join("`, `"));
        let Value::Text(text, _) = &field.node.value else {
            self.wrong_type(field, &one_of);
            return None;
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        let suggestion =
            closest(text, words.iter().copied()).map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
        let message = format!("{} must be {one_of}, not {}{suggestion}", field.name, quoted(text));
        self.problem(field.node.mark, message);
        None
    }

    pub(super) fn boolean(&mut self, field: &Field<'_>) -> Option<bool> {
        if let Value::Bool(value) = &field.node.value {
            return Some(*value);
        }
        self.wrong_type(field, "`true` or `false`");
        None
    }

    /// A port number in a range.
    pub(super) fn port(&mut self, field: &Field<'_>, range: &RangeInclusive<u16>) -> Option<u16> {
        let Value::Number(number, text) = &field.node.value else {
            self.wrong_type(field, "a port number");
            return None;
        };
        let port = number.and_then(|number| u16::try_from(number).ok()).filter(|port| range.contains(port));
        if port.is_none() {
            let (min, max) = (range.start(), range.end());
            self.problem(field.node.mark, format!("{} must be between {min} and {max}, not `{text}`", field.name));
        }
        port
    }
}

/// Whether YAML 1.1 reads this unquoted word as a boolean and YAML 1.2 as a string.
pub(super) fn is_old_boolean(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "y" | "yes" | "n" | "no" | "on" | "off")
}
