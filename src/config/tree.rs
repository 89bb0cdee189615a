//! A YAML document as a tree in which every key and value knows its place and nothing is lost.

use std::collections::BTreeMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Deeper input is refused: nothing in a configuration nests this far, and the tree is walked by recursion.
const DEEPEST: usize = 64;
/// Most values that aliases may stand for, against inputs that grow exponentially.
const MOST_ALIASED: usize = 10_000;

/// A place in the text: line and column, 1-based, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// Line, 1-based.
    pub(super) line: usize,
    /// Column, 1-based.
    pub(super) column: usize,
}

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where the value begins.
    pub(super) mark: Mark,
    /// The value.
    pub(super) value: Value,
}

/// What a value is, under the core schema of YAML 1.2.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, with its text; `None` for what is not an integer of 64 bits.
    Number(Option<i64>, String),
    /// A string, and whether it was written without quotes.
    Text(String, bool),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the text, duplicates included.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key's text.
    pub(super) key: String,
    /// Where the key begins.
    pub(super) mark: Mark,
    /// The value.
    pub(super) node: Node,
}

impl Value {
    /// What kind of value this is, for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "empty".to_owned(),
            Self::Bool(value) => format!("the boolean `{value}`"),
            Self::Number(_, text) => format!("the number `{text}`"),
            Self::Text(text, _) => format!("the string {}", quoted(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
        }
    }

    /// Number of values in this one, itself included.
    fn size(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(|item| item.value.size()).sum::<usize>(),
            Self::Map(entries) => 1 + entries.iter().map(|entry| entry.node.value.size()).sum::<usize>(),
            _ => 1,
        }
    }

    /// Levels of lists and mappings in this value.
    fn depth(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(|item| item.value.depth()).max().unwrap_or(0),
            Self::Map(entries) => 1 + entries.iter().map(|entry| entry.node.value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// A text in backticks, on one line and not too long.
pub(super) fn quoted(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().take(60) {
        if c.is_control() {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    let more = if text.chars().nth(60).is_some() { "…" } else { "" };
    format!("`{line}{more}`")
}

/// Reads the one document of `text`; `Ok(None)` if there is nothing in it.
///
/// The error is a place and a message: after it the rest of the text has no sure meaning.
pub(super) fn parse(text: &str) -> Result<Option<Node>, (Mark, String)> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.take(event, span)?,
            Err(error) => return Err((mark_of(*error.marker()), format!("this is not YAML: {}", error.info()))),
        }
    }
    Ok(builder.document.filter(|node| !matches!(node.value, Value::Null)))
}

/// A list or mapping whose end has not come yet.
struct Open {
    mark: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    /// The entries, and the key whose value has not come yet.
    Map(Vec<Entry>, Option<(String, Mark)>),
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    aliased: usize,
    document: Option<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), (Mark, String)> {
        let mark = mark_of(span.start);
        match event {
            Event::DocumentStart(_) if self.document.is_some() => {
                Err((mark, "a second document begins here; a configuration is one document".to_owned()))
            }
            Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing | Event::StreamStart | Event::StreamEnd => {
                Ok(())
            }
            Event::SequenceStart(anchor, _) => self.begin(mark, anchor, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(mark, anchor, Content::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let value = match open.content {
                    Content::List(items) => Value::List(items),
                    Content::Map(entries, _) => Value::Map(entries),
                };
                self.add(Node { mark: open.mark, value }, open.anchor)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let written = text.clone().into_owned();
                let Some(scalar) = Scalar::parse_from_cow_and_metadata(text, style, tag.as_ref()) else {
                    return Err((mark, format!("the tag does not fit {}", quoted(&written))));
                };
                let plain = style == ScalarStyle::Plain && tag.is_none();
                self.add(Node { mark, value: value_of(scalar, written, plain) }, anchor)
            }
            Event::Alias(anchor) => self.alias(mark, anchor),
        }
    }

    fn begin(&mut self, mark: Mark, anchor: usize, content: Content) -> Result<(), (Mark, String)> {
        if self.open.len() == DEEPEST {
            return Err((mark, format!("this nests deeper than {DEEPEST} levels")));
        }
        self.open.push(Open { mark, anchor, content });
        Ok(())
    }

    fn alias(&mut self, mark: Mark, anchor: usize) -> Result<(), (Mark, String)> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err((mark, "the alias stands inside its own anchor".to_owned()));
        };
        self.aliased += node.value.size();
        if self.aliased > MOST_ALIASED || self.open.len() + node.value.depth() > DEEPEST {
            return Err((mark, "the aliases stand for too much".to_owned()));
        }
        self.add(Node { mark, value: node.value }, 0)
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), (Mark, String)> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.document = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map(entries, key)) => match key.take() {
                Some((key, mark)) => entries.push(Entry { key, mark, node }),
                None => *key = Some(key_of(node)?),
            },
        }
        Ok(())
    }
}

/// The text of a key: any scalar, because `5: x` and `true: x` have keys that read as they are written.
fn key_of(node: Node) -> Result<(String, Mark), (Mark, String)> {
    match node.value {
        Value::Text(text, _) | Value::Number(_, text) => Ok((text, node.mark)),
        Value::Bool(value) => Ok((value.to_string(), node.mark)),
        Value::Null => Err((node.mark, "the key is empty".to_owned())),
        Value::List(_) | Value::Map(_) => Err((node.mark, "a key must be a string".to_owned())),
    }
}

fn value_of(scalar: Scalar<'_>, written: String, plain: bool) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::Bool(value),
        Scalar::Integer(value) => Value::Number(Some(value), written),
        Scalar::FloatingPoint(_) => Value::Number(None, written),
        Scalar::String(text) => Value::Text(text.into_owned(), plain),
    }
}

fn mark_of(marker: saphyr::Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_give_the_same_tree() {
        let yaml = parse("a: 1\nb: [x, \"y\"]\n").unwrap().unwrap();
        let json = parse(r#"{"a": 1, "b": ["x", "y"]}"#).unwrap().unwrap();
        assert_eq!(yaml.value.size(), json.value.size());
    }

    #[test]
    fn nothing_and_comments_are_no_document() {
        for text in ["", "\n\n", "# nothing\n", "---\n", "null"] {
            assert!(parse(text).unwrap().is_none(), "{text:?}");
        }
    }

    #[test]
    fn input_that_would_explode_is_refused() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
        assert_eq!(parse(bomb).unwrap_err().1, "the aliases stand for too much");
        assert!(parse(&"[".repeat(DEEPEST + 1)).unwrap_err().1.contains("deeper"));
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse("a: &a [*a]").is_err());
    }
}
