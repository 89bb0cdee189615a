//! The documents of a manifest, as kubectl reads them.
//!
//! Where kubectl silently drops something, such as what follows a `...`, this refuses it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::outline::{self, Flaw, Kind, Node};
use super::scalar::{self, Scalar};

/// How many values aliases may stand for: a text that is small can be exponentially large when they are followed.
const MAX_ALIASED: usize = 100_000;

/// A value of a file, or why there is none.
#[derive(Debug, PartialEq)]
pub struct Document {
    /// The number of the document in the file, from 1.
    pub number: usize,
    /// The byte at which the document's content begins, or at which it cannot be understood.
    pub at: usize,
    /// The value, or what is wrong at that byte, on one line.
    pub value: Result<Value, String>,
    /// Keys that are set more than once in a mapping, and where again; the last one counts.
    pub repeated: Vec<(usize, String)>,
}

/// All documents of a file that are not empty.
pub fn read(text: &str) -> Vec<Document> {
    if text.trim_start().starts_with('{')
        && let Some(documents) = read_json(text)
    {
        return documents;
    }
    let (parts, flaw) = parts(text);
    let mut documents = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let mut builder = Builder::default();
        let (at, value) = match read_part(part.text, &mut builder) {
            Ok(None) => continue,
            Ok(Some((at, value))) => (at, Ok(value)),
            // What is missing at the end is missing after the last thing that is there.
            Err(flaw) => (flaw.at.min(part.text.trim_end().len()), Err(flaw.message)),
        };
        let repeated = builder.repeated.into_iter().map(|(at, key)| (part.at + at, key)).collect();
        documents.push(Document { number: index + 1, at: part.at + at, value, repeated });
    }
    documents.extend(flaw.map(|flaw| Document {
        number: parts.len(),
        at: flaw.at,
        value: Err(flaw.message),
        repeated: Vec::new(),
    }));
    documents
}

/// The number that kubectl reads where this stands without quotes, if it reads one.
pub(crate) fn number(plain: &str) -> Option<serde_json::Number> {
    match scalar::resolve(plain, true, None).ok()?.into_json()? {
        Value::Number(number) => Some(number),
        _ => None,
    }
}

/// Where the value is that a JSON pointer such as `/spec/replicas` names, or the closest value that contains it.
///
/// `key` asks for the place of the last key instead of that of its value.
pub fn place(text: &str, number: usize, pointer: &str, key: bool) -> usize {
    let parts = parts(text).0;
    // JSON is YAML as well; only one document is looked up in it.
    let Some(part) = parts.get(number.saturating_sub(1)) else { return 0 };
    let Ok(Some(root)) = outline::parse_first(&completed(part.text)) else { return part.at };
    let mut at = root.span.start;
    let mut node = &root;
    let steps: Vec<String> =
        pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    for (index, step) in steps.iter().enumerate() {
        let is_last = index + 1 == steps.len();
        let pair = node.pairs().iter().rev().find(|(key, _)| key_of(key).is_ok_and(|key| key == *step));
        let item = step.parse::<usize>().ok().and_then(|index| node.items().get(index));
        node = match (pair, item) {
            (Some((name, value)), _) => {
                let is_at_key = (key && is_last) || value.span.is_empty();
                at = if is_at_key { name.span.start } else { value.span.start };
                value
            }
            (None, Some(item)) => {
                at = item.span.start;
                item
            }
            (None, None) => break,
        };
    }
    part.at + at
}

/// The values of a JSON text; `None` if it is not JSON, and so may be YAML.
fn read_json(text: &str) -> Option<Vec<Document>> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut documents = Vec::new();
    loop {
        let before = stream.byte_offset();
        let Some(value) = stream.next() else { return Some(documents) };
        let value = with_integers(value.ok()?);
        let at = before + text[before..].find(|c: char| !c.is_whitespace()).unwrap_or_default();
        documents.push(Document { number: documents.len() + 1, at, value: Ok(value), repeated: Vec::new() });
    }
}

/// The value with its numbers as Go writes them.
fn with_integers(value: Value) -> Value {
    match value {
        Value::Number(number) if !number.is_i64() => {
            number.as_f64().and_then(scalar::number).unwrap_or(Value::Number(number))
        }
        Value::Array(items) => items.into_iter().map(with_integers).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, with_integers(value))).collect(),
        other => other,
    }
}

/// A document's part of a file.
struct Part<'text> {
    at: usize,
    text: &'text str,
}

/// Splits a file at its lines `---`, up to the first such line with something else on it.
fn parts(text: &str) -> (Vec<Part<'_>>, Option<Flaw>) {
    let (mut parts, mut begin, mut at) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix("---") {
            let rest = rest.trim();
            if !(rest.is_empty() || rest.starts_with('#')) {
                parts.push(Part { at: begin, text: &text[begin..at] });
                let message = format!("`---` must stand alone on its line, because kubectl refuses `{rest}` behind it");
                return (parts, Some(Flaw::new(at, message)));
            }
            let before = &text[begin..at];
            // What precedes the first one is a document only if it has content.
            let is_head = parts.is_empty() && before.lines().all(|line| line.is_empty() || line.starts_with('#'));
            if !is_head {
                parts.push(Part { at: begin, text: before });
            }
            begin = at + line.len();
        }
        at += line.len();
    }
    parts.push(Part { at: begin, text: &text[begin..] });
    (parts, None)
}

/// The text with a line end at its end, as kubectl's reader of lines adds it.
fn completed(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.ends_with('\n') { Cow::Borrowed(text) } else { Cow::Owned(format!("{text}\n")) }
}

/// The value of one document and where it begins.
fn read_part(text: &str, builder: &mut Builder) -> Result<Option<(usize, Value)>, Flaw> {
    // Windows editors write a byte order mark first.
    let (mark, text) = text.strip_prefix('\u{feff}').map_or((0, text), |rest| (text.len() - rest.len(), rest));
    let behind = |flaw: Flaw| Flaw::new(flaw.at + mark, flaw.message);
    let Some(root) = outline::parse_only(&completed(text)).map_err(behind)? else { return Ok(None) };
    let at = root.span.start;
    let value = builder.build(&root).map_err(behind)?;
    builder.repeated.iter_mut().for_each(|(at, _)| *at += mark);
    Ok(Some((mark + at, value)).filter(|(_, value)| !value.is_null()))
}

/// Makes a value of an outline: resolves scalars, aliases and merge keys.
#[derive(Default)]
struct Builder {
    anchors: BTreeMap<String, Value>,
    aliased: usize,
    repeated: Vec<(usize, String)>,
}

impl Builder {
    fn build(&mut self, node: &Node) -> Result<Value, Flaw> {
        let anchor = node.properties.as_ref().and_then(|properties| properties.anchor.as_ref());
        if let Some(anchor) = anchor {
            // Inside of its own node it stands for nothing, not even for an earlier anchor of that name.
            self.anchors.remove(anchor);
        }
        let at = node.span.start;
        let value = match &node.kind {
            Kind::Scalar { value, .. } => {
                let scalar = scalar_of(node)?;
                let unknown = || Flaw::new(at, format!("`{value}` is a number that JSON does not have"));
                scalar.into_json().ok_or_else(unknown)?
            }
            Kind::Alias(name) => self.aliased(name, at)?,
            Kind::Sequence { items, .. } => {
                Value::Array(items.iter().map(|item| self.build(item)).collect::<Result<_, _>>()?)
            }
            Kind::Mapping { pairs, .. } => Value::Object(self.mapping(pairs)?),
        };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor.clone(), value.clone());
        }
        Ok(value)
    }

    /// The last value of a key counts; a merge key overrides what stands before it, as kubectl does.
    fn mapping(&mut self, pairs: &[(Node, Node)]) -> Result<Map<String, Value>, Flaw> {
        let (mut map, mut set) = (Map::new(), BTreeSet::new());
        for (key, value) in pairs {
            if key.is_merge() {
                for merged in self.merged(value)?.into_iter().rev() {
                    map.extend(merged);
                }
                continue;
            }
            let name = match &key.kind {
                Kind::Alias(name) => text_key(self.aliased(name, key.span.start)?),
                _ => Some(key_of(key)?),
            };
            let name =
                name.ok_or_else(|| Flaw::new(key.span.start, "a key must be a string, a number or a boolean"))?;
            if let Some(anchor) = key.properties.as_ref().and_then(|properties| properties.anchor.clone()) {
                let value = self.build(key)?;
                self.anchors.insert(anchor, value);
            }
            let value = self.build(value)?;
            if !set.insert(name.clone()) {
                self.repeated.push((key.span.start, name.clone()));
            }
            map.insert(name, value);
        }
        Ok(map)
    }

    /// The mappings that a merge key stands for; the first one wins.
    fn merged(&mut self, node: &Node) -> Result<Vec<Map<String, Value>>, Flaw> {
        let wrong = || Flaw::new(node.span.start, "a merge key `<<` needs a mapping, or a list of mappings");
        let nodes: Vec<&Node> = match &node.kind {
            Kind::Sequence { items, .. } => items.iter().collect(),
            _ => vec![node],
        };
        nodes
            .into_iter()
            .map(|node| match self.build(node)? {
                Value::Object(map) => Ok(map),
                _ => Err(wrong()),
            })
            .collect()
    }

    /// The value that an alias stands for.
    fn aliased(&mut self, name: &str, at: usize) -> Result<Value, Flaw> {
        let Some(value) = self.anchors.get(name) else {
            return Err(Flaw::new(at, format!("the alias of `{name}` is inside its own anchor")));
        };
        self.aliased += size(value);
        if self.aliased > MAX_ALIASED {
            return Err(Flaw::new(at, "the aliases stand for too many values"));
        }
        Ok(value.clone())
    }
}

fn scalar_of(node: &Node) -> Result<Scalar, Flaw> {
    let Kind::Scalar { value, plain } = &node.kind else {
        return Err(Flaw::new(node.span.start, "a key must be a string, a number or a boolean"));
    };
    let tag = node.properties.as_ref().and_then(|properties| properties.tag.as_deref());
    scalar::resolve(value, *plain, tag).map_err(|message| Flaw::new(node.span.start, message))
}

fn key_of(node: &Node) -> Result<String, Flaw> {
    let wrong = || Flaw::new(node.span.start, "a key must be a string, a number or a boolean");
    scalar_of(node)?.into_key().ok_or_else(wrong)
}

/// The text of a key that an alias stands for.
fn text_key(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Number of values in this one, itself included.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
