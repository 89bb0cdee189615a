//! A YAML document as a tree in which every key and value has its place and nothing is lost.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::scalar;
use super::value::{Entry, Node, Value, quoted};
use crate::yaml::manifest;
use crate::yaml::outline::{self, Flaw, Kind};
use crate::yaml::places::{Mark, Places};

/// No configuration nests this deep; deeper ones are refused, because the tree is walked by recursion.
const MAX_DEPTH: usize = 64;
/// How many values aliases may stand for: a text that is small can be exponentially large when they are followed.
const MAX_ALIASED: usize = 10_000;

/// Parses the one document of `text`; `Ok(None)` if there is nothing in it.
///
/// The error is a place and a message: nothing is known about the rest of the text.
pub(super) fn parse(text: &str) -> Result<Option<Node>, (Mark, String)> {
    let places = Places::new(text);
    // A block scalar may end with the text, without a line end.
    let complete = if text.ends_with('\n') { Cow::Borrowed(text) } else { Cow::Owned(format!("{text}\n")) };
    let document = outline::parse_only(&complete).and_then(|root| {
        let mut builder = Builder { places: &places, anchors: BTreeMap::new(), aliased: 0 };
        root.map(|root| builder.build(root, 0)).transpose()
    });
    match document {
        Ok(document) => Ok(document.filter(|node| !matches!(node.value, Value::Null))),
        // What is missing at the end is missing after the last thing that is there.
        Err(flaw) => Err((places.mark(flaw.at.min(text.trim_end().len())), flaw.message)),
    }
}

/// Makes the tree of an outline: resolves scalars and aliases.
struct Builder<'a> {
    places: &'a Places<'a>,
    anchors: BTreeMap<String, Node>,
    aliased: usize,
}

impl Builder<'_> {
    fn build(&mut self, node: outline::Node, depth: usize) -> Result<Node, Flaw> {
        let at = node.span.start;
        let (anchor, tag) = node.properties.map_or((None, None), |properties| (properties.anchor, properties.tag));
        if let Some(anchor) = &anchor {
            // Inside of its own node it stands for nothing, not even for an earlier anchor of that name.
            self.anchors.remove(anchor);
        }
        let is_collection = matches!(node.kind, Kind::Sequence { .. } | Kind::Mapping { .. });
        if is_collection && depth == MAX_DEPTH {
            return Err(Flaw::new(at, format!("this nests deeper than {MAX_DEPTH} levels")));
        }
        let value = match node.kind {
            Kind::Scalar { value, plain } => {
                if plain && tag.is_none() && is_octal(&value) {
                    let read = manifest::number(&value).map(|number| format!(" as {number}")).unwrap_or_default();
                    let message = format!(
                        "kubectl reads `{value}`{read}; write the number without zeros before it, or put it in quotes"
                    );
                    return Err(Flaw::new(at, message));
                }
                let unfit = Flaw::new(at, format!("the tag does not fit {}", quoted(&value)));
                scalar::resolve(value, plain, tag.as_deref()).ok_or(unfit)?
            }
            Kind::Alias(name) => self.aliased(&name, at, depth)?,
            Kind::Sequence { items, .. } => {
                let items = items.into_iter().map(|item| self.build(item, depth + 1));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            Kind::Mapping { pairs, .. } => Value::Map(self.mapping(pairs, depth)?),
        };
        let node = Node { mark: self.places.mark(at), value };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// The entries of a mapping, then those of its merge keys that it does not set itself.
    fn mapping(&mut self, pairs: Vec<(outline::Node, outline::Node)>, depth: usize) -> Result<Vec<Entry>, Flaw> {
        let (mut entries, mut merged): (Vec<Entry>, Vec<Entry>) = (Vec::new(), Vec::new());
        for (key, value) in pairs {
            let key_at = key.span.start;
            if key.is_merge() {
                merged.extend(self.merged(value, depth)?);
                continue;
            }
            let key = self.build(key, depth + 1)?;
            let (key, mark) = key_of(key).map_err(|message| Flaw::new(key_at, message))?;
            entries.push(Entry { key, mark, node: self.build(value, depth + 1)? });
        }
        for entry in merged {
            if !entries.iter().any(|known| known.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// The entries that a merge key stands for: those of a mapping, or of a list of mappings, of which the first one wins.
    fn merged(&mut self, value: outline::Node, depth: usize) -> Result<Vec<Entry>, Flaw> {
        let wrong = Flaw::new(value.span.start, "a merge key `<<` needs a mapping, or a list of mappings");
        let nodes = match self.build(value, depth + 1)?.value {
            Value::Map(entries) => return Ok(entries),
            Value::List(nodes) => nodes,
            _ => return Err(wrong),
        };
        let mut all = Vec::new();
        for node in nodes {
            let Value::Map(entries) = node.value else { return Err(wrong) };
            all.extend(entries);
        }
        Ok(all)
    }

    /// The value that an alias stands for.
    fn aliased(&mut self, name: &str, at: usize, depth: usize) -> Result<Value, Flaw> {
        let Some(node) = self.anchors.get(name) else {
            return Err(Flaw::new(at, format!("the alias of `{name}` is inside its own anchor")));
        };
        self.aliased += node.value.size();
        if self.aliased > MAX_ALIASED || depth + node.value.depth() > MAX_DEPTH {
            return Err(Flaw::new(at, "the aliases stand for too many values"));
        }
        Ok(node.value.clone())
    }
}

/// Whether YAML 1.1 reads another number than YAML 1.2, or another base: `0400`.
fn is_octal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The text of a key: any scalar, because the keys of `5: x` and `true: x` read as they are written.
fn key_of(node: Node) -> Result<(String, Mark), &'static str> {
    match node.value {
        Value::Text(text, _) | Value::Number(_, text) => Ok((text, node.mark)),
        Value::Bool(value) => Ok((value.to_string(), node.mark)),
        Value::Null => Err("the key is empty"),
        Value::List(_) | Value::Map(_) => Err("a key must be a string"),
    }
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
    fn merge_keys_add_what_the_mapping_does_not_set() {
        let text =
            "one: &one {a: 1, b: 1}\ntwo: {b: 2, <<: *one}\nall: {<<: [*one, {b: 3, c: 3}], a: 9}\nplain: {'<<': x}\n";
        let Value::Map(entries) = parse(text).unwrap().unwrap().value else { panic!() };
        let of = |name: &str| -> Vec<(String, String)> {
            let entry = entries.iter().find(|entry| entry.key == name).unwrap();
            let Value::Map(entries) = &entry.node.value else { panic!() };
            let pair = |entry: &Entry| (entry.key.clone(), entry.node.value.describe());
            entries.iter().map(pair).collect()
        };
        let number = |key: &str, number: &str| (key.to_owned(), format!("the number `{number}`"));
        assert_eq!(of("two"), [number("b", "2"), number("a", "1")]);
        assert_eq!(of("all"), [number("a", "9"), number("b", "1"), number("c", "3")]);
        assert_eq!(of("plain")[0].0, "<<");
        assert!(parse("a: {<<: 5}").unwrap_err().1.contains("merge key"));
        assert!(parse("a: {<<: [5]}").unwrap_err().1.contains("merge key"));
    }

    #[test]
    fn input_that_would_explode_is_refused() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
        assert_eq!(parse(bomb).unwrap_err().1, "the aliases stand for too many values");
        let nested = |depth: usize| parse(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        assert!(nested(MAX_DEPTH).is_ok());
        assert!(nested(MAX_DEPTH + 1).unwrap_err().1.contains("deeper"));
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse("a: &a [*a]").is_err());
    }
}
