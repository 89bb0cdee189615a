//! Values of a configuration file, each with its place.

pub(super) use crate::yaml::places::Mark;

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where the value begins.
    pub(super) mark: Mark,
    pub(super) value: Value,
}

/// A value under the core schema of YAML 1.2.
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
    List(Vec<Node>),
    /// A mapping in the order of the text, duplicates included.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key begins.
    pub(super) mark: Mark,
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

    /// A scalar's text, whatever its type; of anything else, nothing.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Number(_, text) | Self::Text(text, _) => text.clone(),
            Self::Null | Self::List(_) | Self::Map(_) => String::new(),
        }
    }

    /// The value of a key of a mapping.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node)
    }

    /// Number of values in this one, itself included.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(|item| item.value.size()).sum::<usize>(),
            Self::Map(entries) => 1 + entries.iter().map(|entry| entry.node.value.size()).sum::<usize>(),
            _ => 1,
        }
    }

    /// Levels of lists and mappings in this value.
    pub(super) fn depth(&self) -> usize {
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
