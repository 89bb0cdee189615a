//! Changes single entries in a kubeconfig's text and leaves every other byte as it is.
//!
//! Nothing is ever parsed and written back, so comments, key order, quoting, unknown keys and what YAML 1.1
//! makes of `yes` or `012` stay as they are.

use std::ops::Range;

use serde_json::Value;

use crate::error::Result as CrateResult;
use crate::yaml::outline::{Flaw, Kind, Node, parse_first};

/// What a new kubeconfig begins with.
pub(super) const SKELETON: &str = "apiVersion: v1\nkind: Config\n";

/// The text of a new value, in block and flow style.
struct Rendered {
    block: String,
    flow: String,
}

impl Rendered {
    fn new(value: &Value) -> CrateResult<Self> {
        Ok(Self { block: crate::yaml::to_string(value)?, flow: value.to_string() })
    }
}

/// Why an edit failed: the text does not allow it, or the value cannot be written.
#[derive(Debug)]
pub(super) enum Failure {
    Text(Flaw),
    Other(crate::error::Error),
}

impl From<Flaw> for Failure {
    fn from(flaw: Flaw) -> Self {
        Self::Text(flaw)
    }
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        Self::Other(error)
    }
}

/// Returns the text's root mapping, or the flaw that it has none.
pub(super) fn root_of(text: &str) -> Result<Option<Node>, Flaw> {
    match parse_first(text)? {
        Some(root) if !matches!(root.kind, Kind::Mapping { .. }) => {
            Err(Flaw::new(root.span.start, "a kubeconfig must be a mapping"))
        }
        Some(root) => {
            if let Some((key, _)) = root.pairs().iter().find(|(key, _)| key.text() == Some("<<")) {
                return Err(Flaw::new(key.span.start, "a merge key at the top level cannot be changed safely"));
            }
            Ok(Some(root))
        }
        None => Ok(None),
    }
}

/// The items of the list `key` of the root mapping.
pub(super) fn items_of<'root>(root: &'root Node, key: &str) -> Result<&'root [Node], Flaw> {
    match root.get(key) {
        None => Ok(&[]),
        Some(node) => match &node.kind {
            Kind::Sequence { items, .. } => Ok(items),
            _ if node.is_null() => Ok(&[]),
            _ => Err(Flaw::new(node.span.start, format!("`{key}` must be a list"))),
        },
    }
}

/// Whether an item of a list is the entry `name`.
pub(super) fn is_entry(item: &Node, name: &str) -> bool {
    item.get("name").and_then(Node::text) == Some(name)
}

/// Adds the entry `name` to the list `key`, or replaces the one with that name.
pub(super) fn set_entry(text: &str, key: &str, name: &str, item: &Value) -> Result<String, Failure> {
    let Some(root) = root_of(text)? else { return set_entry(&begin(text)?, key, name, item) };
    let old: Vec<usize> = positions(items_of(&root, key)?, name);
    if old.len() > 1 {
        return set_entry(&remove_entries(text, key, name)?, key, name, item);
    }
    let rendered = Rendered::new(&Value::Array(vec![item.clone()]))?;
    let bare = Rendered::new(item)?;
    let Some(list) = root.get(key) else { return Ok(add_key(text, &root, key, &rendered)) };
    let text = match (&list.kind, old.first()) {
        (Kind::Sequence { items, open: Some(_) }, Some(&at)) => splice(text, items[at].span.clone(), &bare.flow),
        (Kind::Sequence { items, open: None }, Some(&at)) => {
            let (column, lines) = item_lines(text, list, &items[at])?;
            splice(text, lines, &fit(text, &rendered.block, column))
        }
        (Kind::Sequence { items, open: Some(open) }, None) if !items.is_empty() => {
            splice(text, *open..*open, &format!("{}, ", bare.flow))
        }
        (Kind::Sequence { items, open: None }, None) => {
            let (column, lines) = item_lines(text, list, items.last().unwrap_or(list))?;
            insert_lines(text, lines.end, &fit(text, &rendered.block, column))
        }
        _ => fill_empty(text, &root, list, &rendered)?,
    };
    Ok(text)
}

/// Removes every entry `name` from the list `key`.
pub(super) fn remove_entries(text: &str, key: &str, name: &str) -> Result<String, Flaw> {
    let mut text = text.to_owned();
    loop {
        let Some(root) = root_of(&text)? else { return Ok(text) };
        let (items, Some(list)) = (items_of(&root, key)?, root.get(key)) else { return Ok(text) };
        let Some(&at) = positions(items, name).first() else { return Ok(text) };
        text = match &list.kind {
            Kind::Sequence { open: Some(_), .. } => splice(&text, flow_item_with_comma(items, at), ""),
            _ if items.len() > 1 => {
                let (_, lines) = item_lines(&text, list, &items[at])?;
                splice(&text, lines, "")
            }
            _ => empty_list(&text, &root, key, list)?,
        };
    }
}

/// Sets the current context; an empty name unsets it.
pub(super) fn set_current_context(text: &str, name: &str) -> Result<String, Failure> {
    const KEY: &str = "current-context";
    let Some(root) = root_of(text)? else { return set_current_context(&begin(text)?, name) };
    let rendered = Rendered::new(&Value::from(name))?;
    let Some(value) = root.get(KEY) else { return Ok(add_key(text, &root, KEY, &rendered)) };
    if !matches!(value.kind, Kind::Scalar { .. } | Kind::Alias(_)) {
        return Err(Flaw::new(value.span.start, "`current-context` must be a name").into());
    }
    if value.text() == Some(name) && !value.is_null() {
        return Ok(text.to_owned());
    }
    let flow = matches!(root.kind, Kind::Mapping { open: Some(_), .. });
    let new = if flow { rendered.flow } else { rendered.block.trim_end().to_owned() };
    let old = &text[value.span.clone()];
    // The span of a block scalar includes its line end.
    let line_end = if old.ends_with('\n') { newline(text) } else { "" };
    let space = if text[..value.span.start].ends_with(':') { " " } else { "" };
    Ok(splice(text, value.span.clone(), &format!("{space}{new}{line_end}")))
}

/// Adds a document to a text without one.
fn begin(text: &str) -> Result<String, Flaw> {
    let new = insert_lines(text, text.len(), &fit(text, SKELETON, 0));
    // Such as when the first of several documents is empty.
    root_of(&new)?.ok_or_else(|| Flaw::new(0, "the first document is empty"))?;
    Ok(new)
}

fn positions(items: &[Node], name: &str) -> Vec<usize> {
    (0..items.len()).filter(|&at| is_entry(&items[at], name)).collect()
}

/// Adds a key after the root's content.
fn add_key(text: &str, root: &Node, key: &str, value: &Rendered) -> String {
    if let Kind::Mapping { open: Some(open), pairs } = &root.kind {
        let comma = if pairs.is_empty() { "" } else { ", " };
        return splice(text, *open..*open, &format!("{}: {}{comma}", Value::from(key), value.flow));
    }
    let column = root.pairs().first().map_or(0, |(first, _)| column_of(text, first.span.start));
    let gap = if value.block.starts_with("- ") { "\n" } else { " " };
    let added = fit(text, &format!("{key}:{gap}{}", value.block), column);
    insert_lines(text, line_end(text, root.span.end), &added)
}

/// Adds the first entry to a list that is `null`, `[]` or nothing.
fn fill_empty(text: &str, root: &Node, list: &Node, value: &Rendered) -> Result<String, Flaw> {
    if list.properties.is_some() {
        return Err(Flaw::new(list.span.start, "an empty list with an anchor or a tag cannot be changed safely"));
    }
    let space = if text[..list.span.start].ends_with(':') { " " } else { "" };
    if matches!(root.kind, Kind::Mapping { open: Some(_), .. }) {
        return Ok(splice(text, list.span.clone(), &format!("{space}{}", value.flow)));
    }
    let column = root.pairs().first().map_or(0, |(first, _)| column_of(text, first.span.start));
    let end = line_end(text, list.span.end);
    let text = insert_lines(text, end, &fit(text, &value.block, column));
    let before = text[..list.span.start].trim_end_matches(' ').len();
    let rest_is_empty = text[list.span.end..end.max(list.span.end)].trim().is_empty();
    let start = if rest_is_empty { before } else { list.span.start };
    Ok(splice(&text, start..list.span.end, ""))
}

/// Removes the only entry of a block list, which must then become `[]`.
fn empty_list(text: &str, root: &Node, key: &str, list: &Node) -> Result<String, Flaw> {
    let Some(item) = list.items().first() else { return Ok(text.to_owned()) };
    let (_, lines) = item_lines(text, list, item)?;
    let end = newline(text);
    let name = root.pairs().iter().rev().find(|(name, _)| name.text() == Some(key)).map(|(name, _)| name);
    if let Some(name) = name.filter(|name| text[name.span.end..lines.start].trim() == ":") {
        return Ok(splice(text, name.span.end..lines.end, &format!(": []{end}")));
    }
    let column = root.pairs().first().map_or(0, |(first, _)| column_of(text, first.span.start));
    Ok(splice(text, lines, &format!("{}[]{end}", " ".repeat(column + 2))))
}

/// The lines of an item of a block list, from its dash on, and the column of the dash.
fn item_lines(text: &str, list: &Node, item: &Node) -> Result<(usize, Range<usize>), Flaw> {
    let end = line_end(text, item.span.end);
    let mut line = line_start(text, item.span.start);
    loop {
        let rest = &text[line..];
        let column = rest.len() - rest.trim_start_matches(' ').len();
        let after = rest[column..].strip_prefix('-');
        if line + column < item.span.start.max(line + 1)
            && after.is_some_and(|after| after.starts_with([' ', '\t', '\r', '\n']))
        {
            return Ok((column, line..end));
        }
        if line <= line_start(text, list.span.start) {
            return Err(Flaw::new(item.span.start, "this entry cannot be changed safely where it is"));
        }
        line = line_start(text, line - 1);
    }
}

/// An item of a flow list with its comma.
fn flow_item_with_comma(items: &[Node], at: usize) -> Range<usize> {
    match (items.get(at + 1), at.checked_sub(1).and_then(|before| items.get(before))) {
        (Some(next), _) => items[at].span.start..next.span.start,
        (None, Some(before)) => before.span.end..items[at].span.end,
        (None, None) => items[at].span.clone(),
    }
}

fn splice(text: &str, range: Range<usize>, new: &str) -> String {
    format!("{}{new}{}", &text[..range.start], &text[range.end..])
}

/// Inserts whole lines at the start of a line, or at the end of a text without a last line end.
fn insert_lines(text: &str, at: usize, lines: &str) -> String {
    let before = &text[..at];
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { newline(text) };
    format!("{before}{gap}{lines}{}", &text[at..])
}

/// Indents `block` and gives it the line ends of `text`.
fn fit(text: &str, block: &str, column: usize) -> String {
    let (indent, end) = (" ".repeat(column), newline(text));
    block.lines().flat_map(|line| [indent.as_str(), line, end]).collect()
}

fn newline(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

/// The start of the line after the one with `at`; `at` itself if it starts a line.
fn line_end(text: &str, at: usize) -> usize {
    if at > 0 && text[..at].ends_with('\n') {
        return at;
    }
    text[at..].find('\n').map_or(text.len(), |end| at + end + 1)
}

fn column_of(text: &str, at: usize) -> usize {
    at - line_start(text, at)
}
