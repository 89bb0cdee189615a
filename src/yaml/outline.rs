//! The structure of a YAML text with the place of every node in it.
//!
//! kubectl parses with a Go port of libyaml; this parses with a Rust port of it, so both accept the same
//! texts. Scalars stay text: whether `yes` is a boolean is never decided here.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;

use libyaml_safer::{Event, EventData, MappingStyle, Parser, ScalarStyle, SequenceStyle};

use super::panics::quietly;

/// No file that people write nests this deep; deeper texts are refused, because the nodes are walked by recursion.
const MAX_DEPTH: usize = 200;
const MERGE_TAG: &str = "tag:yaml.org,2002:merge";

/// Why a text cannot be understood, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The byte that the message is about.
    pub(crate) at: usize,
    /// What is wrong, on one line.
    pub(crate) message: String,
}

impl Flaw {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// A node with its place in the text.
#[derive(Debug)]
pub(crate) struct Node {
    /// The bytes from its anchor or tag on to the end of its last visible character.
    pub(crate) span: Range<usize>,
    /// Its anchor and tag, if it has one of them.
    pub(crate) properties: Option<Properties>,
    pub(crate) kind: Kind,
}

/// A node's anchor and tag; the tag is written out, such as `tag:yaml.org,2002:str`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) anchor: Option<String>,
    pub(crate) tag: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// Text; a `plain` one is not quoted, and so may be a number, a boolean or null.
    Scalar { value: String, plain: bool },
    /// A list; `open` is the byte after `[`, `None` in block style.
    Sequence { items: Vec<Node>, open: Option<usize> },
    /// A mapping; `open` is the byte after `{`, `None` in block style.
    Mapping { pairs: Vec<(Node, Node)>, open: Option<usize> },
    /// A reference to the anchor of this name.
    Alias(String),
}

impl Node {
    /// The node itself, `None` if nothing is written there.
    fn into_content(self) -> Option<Self> {
        (!(self.is_null() && self.span.is_empty())).then_some(self)
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Whether kubectl reads a null, which it treats as empty.
    pub(crate) fn is_null(&self) -> bool {
        let null = |value: &str| matches!(value, "" | "~" | "null" | "Null" | "NULL");
        matches!(&self.kind, Kind::Scalar { value, plain: true } if null(value))
    }

    /// Whether this key means that another mapping's entries are added to its own.
    pub(crate) fn is_merge(&self) -> bool {
        let tag = self.properties.as_ref().and_then(|properties| properties.tag.as_deref());
        match &self.kind {
            Kind::Scalar { value, plain } => value == "<<" && tag.map_or(*plain, |tag| tag == MERGE_TAG || tag == "!"),
            _ => false,
        }
    }

    pub(crate) fn pairs(&self) -> &[(Self, Self)] {
        match &self.kind {
            Kind::Mapping { pairs, .. } => pairs,
            _ => &[],
        }
    }

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

    /// Whether all its places are between characters of `text`.
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

    /// Whether every reader reads the same in both nodes.
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

/// Parses the first document of `text`, which is the only one that kubectl reads; `None` if it is empty.
///
/// The text must not begin with a byte order mark.
pub(crate) fn parse_first(text: &str) -> Result<Option<Node>, Flaw> {
    guarded(text, |reader| {
        let Some(root) = reader.document()? else { return Ok(None) };
        // The event after it is read for its mistakes only: kubectl refuses a text with a mistake in a later
        // document only if that keeps it from finding the end of the first.
        reader.next()?;
        Ok(root.into_content())
    })
}

/// Parses the one document of `text` that is not empty; `None` if there is none.
///
/// The text must not begin with a byte order mark.
pub(crate) fn parse_only(text: &str) -> Result<Option<Node>, Flaw> {
    guarded(text, |reader| {
        let mut only = None;
        while let Some((at, root)) = reader.placed_document()? {
            let Some(root) = root.into_content() else { continue };
            if only.is_some() {
                return Err(Flaw::new(at, "a second document begins here, but only one is allowed"));
            }
            only = Some(root);
        }
        Ok(only)
    })
}

/// Runs `read` over `text` and turns the parser's panics into a flaw.
///
/// libyaml-safer 0.2.0 panics on a few rare texts, such as `[ !!str, a]`.
fn guarded<T>(text: &str, read: impl FnOnce(&mut Reader<'_>) -> Result<T, Flaw>) -> Result<T, Flaw> {
    if text.starts_with('\u{feff}') {
        return Err(Flaw::new(0, "the text has more than one byte order mark"));
    }
    if let Some((at, bad)) = text.char_indices().find(|(_, c)| !is_allowed(*c)) {
        return Err(Flaw::new(at, format!("the control character U+{:04X} is not allowed in YAML", u32::from(bad))));
    }
    // The parser panics when a block scalar meets the end of the text before a line end.
    let complete = if text.ends_with('\n') { Cow::Borrowed(text) } else { Cow::Owned(format!("{text}\n")) };
    let reached = Cell::new(0);
    quietly(|| {
        let mut bytes = complete.as_bytes();
        let mut parser = Parser::new();
        parser.set_input_string(&mut bytes);
        read(&mut Reader { parser, text, anchors: HashSet::new(), reached: &reached })
    })
    .unwrap_or_else(|| Err(Flaw::new(reached.get(), "the YAML parser fails on what follows here")))
}

/// Whether the parser takes this character; it reports others without their place.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{85}') || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

struct Reader<'text> {
    parser: Parser<'text>,
    text: &'text str,
    anchors: HashSet<String>,
    /// The byte up to which events were read.
    reached: &'text Cell<usize>,
}

impl Reader<'_> {
    /// Reads up to the end of the next document's content, if there is one.
    fn document(&mut self) -> Result<Option<Node>, Flaw> {
        Ok(self.placed_document()?.map(|(_, root)| root))
    }

    /// Reads up to the end of the next document's content, if there is one, and where the document begins.
    fn placed_document(&mut self) -> Result<Option<(usize, Node)>, Flaw> {
        let at = loop {
            let event = self.next()?;
            match event.data {
                EventData::StreamEnd => return Ok(None),
                EventData::DocumentStart { .. } => break byte(event.start_mark.index),
                _ => {}
            }
        };
        let first = self.next()?;
        let root = self.node(first, 0)?;
        // A place that the parser counted wrong must not be cut at.
        if !root.is_placed(self.text) {
            return Err(Flaw::new(0, "the text has a character that is not allowed where it is"));
        }
        Ok(Some((at, root)))
    }

    fn next(&mut self) -> Result<Event, Flaw> {
        let event = self.parser.parse().map_err(|error| {
            let at = error.problem_mark().map_or(0, |mark| byte(mark.index)).min(self.text.len());
            let starts_with_colon = self.text.get(at..).is_some_and(|rest| rest.starts_with(':'));
            let message = match (error.problem(), error.context()) {
                // As in `{listenAddress: ::1}` or `[fd00::]`.
                ("did not find expected node content" | "found unexpected ':'", _) if starts_with_colon => {
                    "inside brackets, a value that begins or ends with `:` needs quotes".to_owned()
                }
                (problem, Some(context)) if !context.is_empty() => format!("{problem} {context}").replace('\'', "`"),
                (problem, _) => problem.replace('\'', "`"),
            };
            Flaw::new(at, format!("this is not YAML: {message}"))
        })?;
        self.reached.set(byte(event.end_mark.index).min(self.text.len()));
        Ok(event)
    }

    fn node(&mut self, event: Event, depth: usize) -> Result<Node, Flaw> {
        let (start, end) = (byte(event.start_mark.index), byte(event.end_mark.index).min(self.text.len()));
        if depth > MAX_DEPTH {
            return Err(Flaw::new(start, format!("this nests deeper than {MAX_DEPTH} levels")));
        }
        match event.data {
            EventData::Scalar { anchor, tag, value, style, .. } => {
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                if block && byte(event.end_mark.index) > self.text.len() {
                    return Err(Flaw::new(self.text.len(), "the last line has no line end, which its value needs"));
                }
                let properties = self.properties(anchor, tag);
                let kind = Kind::Scalar { value, plain: style == ScalarStyle::Plain };
                Ok(Node { span: start.min(end)..end, properties, kind })
            }
            EventData::Alias { anchor } => {
                if !self.anchors.contains(&anchor) {
                    return Err(Flaw::new(start, format!("there is no anchor `{anchor}` before this alias")));
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
            _ => Err(Flaw::new(start, "the text ends too early")),
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
        let root = parse_first(text).unwrap().unwrap();
        let list = root.get("é").unwrap();
        assert_eq!(&text[list.span.clone()], "&x\n- a # c\n- {b: 1}");
        assert!(matches!(&list.items()[1].kind, Kind::Mapping { open: Some(open), .. } if &text[*open..=*open] == "b"));
        assert_eq!(root.get("last").unwrap().text(), Some("t\n"));
    }

    #[test]
    fn only_the_first_document_counts() {
        for text in ["", "# x\n", "---\n# x\n"] {
            assert!(parse_first(text).unwrap().is_none() && parse_only(text).unwrap().is_none(), "{text:?}");
        }
        let root = parse_first("a: 1\n---\nb: 2\n").unwrap().unwrap();
        assert!(root.get("b").is_none());
        assert!(parse_first("a: 1\n---\nb: [\n").is_ok());
        assert!(parse_first("null").unwrap().unwrap().is_null());
    }

    #[test]
    fn a_second_document_is_refused_where_only_one_is_allowed() {
        assert!(parse_only("--- a: 1\n...\n").is_err(), "a mapping cannot begin on the line of `---`");
        assert!(parse_only("---\na: 1\n...\n# end\n").unwrap().is_some());
        assert_eq!(parse_only("a: 1\n---\nb: 2\n").unwrap_err().at, 5);
        assert!(parse_only("---\n---\na: 1\n---\n# end\n---\n").unwrap().is_some(), "empty documents are none");
        assert_eq!(parse_only("a: 1\n---\nnull\n").unwrap_err().at, 5);
        assert!(parse_only("a: 1\n...\nb: [\n").is_err());
    }

    #[test]
    fn flaws_have_places() {
        for (text, at, message) in [
            (
                "a:\n\t- b\n",
                3,
                "this is not YAML: found character that cannot start any token while scanning for the next token",
            ),
            ("a: [b\n", 6, "this is not YAML: did not find expected `,` or `]` while parsing a flow sequence"),
            ("a: b: c\n", 4, "this is not YAML: mapping values are not allowed in this context"),
            ("{a: ::1}", 4, "this is not YAML: inside brackets, a value that begins or ends with `:` needs quotes"),
            ("[fd00::]", 6, "this is not YAML: inside brackets, a value that begins or ends with `:` needs quotes"),
            ("é: *x\n", 4, "there is no anchor `x` before this alias"),
            ("é: \u{7}\n", 4, "the control character U+0007 is not allowed in YAML"),
            ("a: b\nc: [ !!str, a]\n", 9, "the YAML parser fails on what follows here"),
            ("\u{feff}a: b", 0, "the text has more than one byte order mark"),
        ] {
            assert_eq!(parse_first(text).unwrap_err(), Flaw::new(at, message), "{text:?}");
            assert_eq!(parse_only(text).unwrap_err(), Flaw::new(at, message), "{text:?}");
        }
        assert!(parse_first(&"[".repeat(5000)).unwrap_err().message.contains("deeper"));
    }

    #[test]
    fn quoted_and_plain_are_not_the_same() {
        let node = |text: &str| parse_first(text).unwrap().unwrap();
        assert!(!node("[yes]").same(&node("['yes']")));
        assert!(node("a: yes").same(&node("{a:   yes}")));
        assert!(!node("a: &x yes").same(&node("a: yes")));
    }
}
