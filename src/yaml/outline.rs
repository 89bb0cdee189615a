//! The structure of a YAML text with the place of every node in it.
//!
//! kubectl reads kubeconfigs with a Go port of libyaml; this reads them with a Rust port of it, so both
//! accept the same texts. Scalars stay text: whether `yes` is a boolean is never decided here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::panic::catch_unwind;

use libyaml_safer::{Event, EventData, MappingStyle, Parser, ScalarStyle, SequenceStyle};

/// Deeper nesting than any kubeconfig has; deeper texts are refused rather than followed.
const DEPTH_LIMIT: usize = 200;

/// Why a text cannot be understood, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The byte it is about.
    pub(crate) at: usize,
    /// What is wrong, one line.
    pub(crate) message: String,
}

impl Flaw {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// The first document of a text, which is the only one that kubectl reads.
#[derive(Debug)]
pub(crate) struct Outline {
    /// The document's node, `None` if the text has no document or an empty one.
    pub(crate) root: Option<Node>,
}

/// A node with its place in the text.
#[derive(Debug)]
pub(crate) struct Node {
    /// The bytes from its anchor or tag on to the end of its last visible character.
    pub(crate) span: Range<usize>,
    /// It has an anchor or a tag before its content.
    pub(crate) properties: Option<Properties>,
    /// What it is.
    pub(crate) kind: Kind,
}

/// A node's anchor and tag.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Properties {
    anchor: Option<String>,
    tag: Option<String>,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Text; `plain` if it is not quoted, and so perhaps a number, a boolean or null.
    Scalar { value: String, plain: bool },
    /// A list; `open` is the byte after `[`, `None` in block style.
    Sequence { items: Vec<Node>, open: Option<usize> },
    /// A mapping; `open` is the byte after `{`, `None` in block style.
    Mapping { pairs: Vec<(Node, Node)>, open: Option<usize> },
    /// Refers to an anchor.
    Alias(String),
}

impl Node {
    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The text of a scalar that kubectl reads as a string, or as null, which it takes for empty.
    pub(crate) fn is_null(&self) -> bool {
        let null = |value: &str| matches!(value, "" | "~" | "null" | "Null" | "NULL");
        matches!(&self.kind, Kind::Scalar { value, plain: true } if null(value))
    }

    /// A mapping's pairs.
    pub(crate) fn pairs(&self) -> &[(Self, Self)] {
        match &self.kind {
            Kind::Mapping { pairs, .. } => pairs,
            _ => &[],
        }
    }

    /// A list's items.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::Sequence { items, .. } => items,
            _ => &[],
        }
    }

    /// The value of `key`; of the last one if there are several, as Go reads it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.pairs().iter().rev().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// Says if all its places are between characters of `text`.
    fn is_placed(&self, text: &str) -> bool {
        let fits = |at: usize| text.is_char_boundary(at);
        let inside = match &self.kind {
            Kind::Scalar { .. } | Kind::Alias(_) => true,
            Kind::Sequence { items, open } => open.is_none_or(fits) && items.iter().all(|item| item.is_placed(text)),
            Kind::Mapping { pairs, open } => {
                open.is_none_or(fits) && pairs.iter().all(|(key, value)| key.is_placed(text) && value.is_placed(text))
            }
        };
        inside && fits(self.span.start) && fits(self.span.end)
    }

    /// Says if every reader reads both nodes the same.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.properties == other.properties
            && match (&self.kind, &other.kind) {
                (Kind::Scalar { value: a, plain: p }, Kind::Scalar { value: b, plain: q }) => a == b && p == q,
                (Kind::Alias(a), Kind::Alias(b)) => a == b,
                (Kind::Sequence { items: a, .. }, Kind::Sequence { items: b, .. }) => {
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
                }
                (Kind::Mapping { pairs: a, .. }, Kind::Mapping { pairs: b, .. }) => {
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0.same(&b.0) && a.1.same(&b.1))
                }
                _ => false,
            }
    }
}

/// Reads the structure of `text`, which must not begin with a byte order mark.
pub(crate) fn parse(text: &str) -> Result<Outline, Flaw> {
    if text.starts_with('\u{feff}') {
        return Err(Flaw::new(0, "it has more than one byte order mark"));
    }
    // libyaml-safer 0.2.0 panics on some rare texts, such as `[ !!str, a]`; the user's file then is refused
    // like any that cannot be understood.
    catch_unwind(|| read(text)).unwrap_or_else(|_| Err(Flaw::new(0, "the YAML parser failed on it")))
}

fn read(text: &str) -> Result<Outline, Flaw> {
    // The parser panics when a block scalar meets the end of the text before a line end.
    let complete = if text.ends_with('\n') { Cow::Borrowed(text) } else { Cow::Owned(format!("{text}\n")) };
    let mut bytes = complete.as_bytes();
    let mut parser = Parser::new();
    parser.set_input_string(&mut bytes);
    let mut reader = Reader { parser, length: text.len(), anchors: HashSet::new() };
    loop {
        let event = reader.next()?;
        match event.data {
            EventData::StreamEnd => return Ok(Outline { root: None }),
            EventData::DocumentStart { .. } => break,
            _ => {}
        }
    }
    let first = reader.next()?;
    let root = reader.node(first, 0)?;
    // A place that the parser counted wrong must not be cut at.
    if !root.is_placed(text) {
        return Err(Flaw::new(0, "it has a character that cannot be where it is"));
    }
    // The rest is read for its mistakes only: kubectl refuses a text with a mistake in a later document
    // only where that keeps it from finding the end of the first.
    reader.next()?;
    let empty = root.is_null() && root.span.is_empty();
    Ok(Outline { root: (!empty).then_some(root) })
}

struct Reader<'text> {
    parser: Parser<'text>,
    length: usize,
    anchors: HashSet<String>,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<Event, Flaw> {
        self.parser.parse().map_err(|error| {
            let at = error.problem_mark().map_or(0, |mark| byte(mark.index)).min(self.length);
            let message = match error.context().filter(|context| !context.is_empty()) {
                Some(context) => format!("{} {context}", error.problem()),
                None => error.problem().to_owned(),
            };
            Flaw::new(at, message)
        })
    }

    fn node(&mut self, event: Event, depth: usize) -> Result<Node, Flaw> {
        let (start, end) = (byte(event.start_mark.index), byte(event.end_mark.index).min(self.length));
        if depth > DEPTH_LIMIT {
            return Err(Flaw::new(start, "it is nested too deeply"));
        }
        match event.data {
            EventData::Scalar { anchor, tag, value, style, .. } => {
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                if block && byte(event.end_mark.index) > self.length {
                    return Err(Flaw::new(self.length, "the text lacks the line end that would end its last value"));
                }
                let properties = self.properties(anchor, tag);
                let kind = Kind::Scalar { value, plain: style == ScalarStyle::Plain };
                Ok(Node { span: start.min(end)..end, properties, kind })
            }
            EventData::Alias { anchor } => {
                if !self.anchors.contains(&anchor) {
                    return Err(Flaw::new(start, "it refers to an anchor that is not there"));
                }
                Ok(Node { span: start..end, properties: None, kind: Kind::Alias(anchor) })
            }
            EventData::SequenceStart { anchor, tag, style, .. } => {
                let properties = self.properties(anchor, tag);
                let flow = style == SequenceStyle::Flow;
                let (items, end) = self.items(flow, depth)?;
                let open = flow.then(|| byte(event.end_mark.index));
                Ok(Node { span: start..end, properties, kind: Kind::Sequence { items, open } })
            }
            EventData::MappingStart { anchor, tag, style, .. } => {
                let properties = self.properties(anchor, tag);
                let flow = style == MappingStyle::Flow;
                let (pairs, end) = self.pairs(flow, depth)?;
                let open = flow.then(|| byte(event.end_mark.index));
                Ok(Node { span: start..end, properties, kind: Kind::Mapping { pairs, open } })
            }
            _ => Err(Flaw::new(start, "it ends too early")),
        }
    }

    /// Reads items up to the list's end, and where the list's content ends.
    fn items(&mut self, flow: bool, depth: usize) -> Result<(Vec<Node>, usize), Flaw> {
        let (mut items, mut end) = (Vec::new(), 0);
        loop {
            let event = self.next()?;
            if matches!(event.data, EventData::SequenceEnd) {
                return Ok((items, if flow { byte(event.end_mark.index) } else { end }));
            }
            let item = self.node(event, depth + 1)?;
            end = end.max(item.span.end);
            items.push(item);
        }
    }

    /// Reads pairs up to the mapping's end, and where the mapping's content ends.
    fn pairs(&mut self, flow: bool, depth: usize) -> Result<(Vec<(Node, Node)>, usize), Flaw> {
        let (mut pairs, mut end) = (Vec::new(), 0);
        loop {
            let event = self.next()?;
            if matches!(event.data, EventData::MappingEnd) {
                return Ok((pairs, if flow { byte(event.end_mark.index) } else { end }));
            }
            let key = self.node(event, depth + 1)?;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            end = end.max(key.span.end).max(value.span.end);
            pairs.push((key, value));
        }
    }

    fn properties(&mut self, anchor: Option<String>, tag: Option<String>) -> Option<Properties> {
        self.anchors.extend(anchor.clone());
        (anchor.is_some() || tag.is_some()).then_some(Properties { anchor, tag })
    }
}

/// A mark's index, which counts bytes here.
fn byte(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_places() {
        let text = "é: &x\n- a # c\n- {b: 1}\n\n# end\nlast: |\n  t\n";
        let root = parse(text).unwrap().root.unwrap();
        let list = root.get("é").unwrap();
        assert_eq!(&text[list.span.clone()], "&x\n- a # c\n- {b: 1}");
        assert!(matches!(&list.items()[1].kind, Kind::Mapping { open: Some(open), .. } if &text[*open..=*open] == "b"));
        assert_eq!(root.get("last").unwrap().text(), Some("t\n"));
    }

    #[test]
    fn only_the_first_document_counts() {
        assert!(parse("").unwrap().root.is_none());
        assert!(parse("# x\n").unwrap().root.is_none());
        assert!(parse("---\n# x\n").unwrap().root.is_none());
        let root = parse("a: 1\n---\nb: 2\n").unwrap().root.unwrap();
        assert!(root.get("b").is_none());
        assert!(parse("null").unwrap().root.unwrap().is_null());
    }

    #[test]
    fn flaws_have_places() {
        assert_eq!(parse("a:\n\t- b\n").unwrap_err().at, 3);
        assert_eq!(parse("a: *x\n").unwrap_err().at, 3);
        assert!(parse(&"[".repeat(5000)).is_err());
    }

    #[test]
    fn quoted_and_plain_are_not_the_same() {
        let node = |text: &str| parse(text).unwrap().root.unwrap();
        assert!(!node("[yes]").same(&node("['yes']")));
        assert!(node("a: yes").same(&node("{a:   yes}")));
        assert!(!node("a: &x yes").same(&node("a: yes")));
    }
}
