//! Writes configuration files with comments.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value as Json;

use super::tree;
use super::value::{Node, Value};
use crate::error::{Code, Error, Result};
use crate::yaml;

/// Comments, without `#`, by the path of the value that they stand above, such as `nodes[0].labels`.
pub(super) type Comments = BTreeMap<String, Vec<String>>;

/// Writes a document; `head` are the comments above it. A comment of a path that the document does not have is left out.
pub(super) fn write(value: &Json, head: &[String], comments: &Comments) -> Result<String> {
    let text = yaml::to_string(value)?;
    let root = tree::parse(&text)
        .map_err(|(_, message)| Error::new(Code::StepFailed, "cannot write the configuration").because(message))?;
    let mut above: BTreeMap<usize, Vec<&String>> = BTreeMap::new();
    if let Some(root) = &root {
        place(root, "", comments, &mut above);
    }
    let mut written = String::new();
    // Writing to a string cannot fail.
    for line in head {
        let _ = writeln!(written, "# {line}");
    }
    for (index, line) in text.lines().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        for comment in above.get(&(index + 1)).into_iter().flatten() {
            let _ = writeln!(written, "{indent}# {comment}");
        }
        written.push_str(line);
        written.push('\n');
    }
    Ok(written)
}

/// Finds the line of each path with comments.
fn place<'c>(node: &Node, path: &str, comments: &'c Comments, above: &mut BTreeMap<usize, Vec<&'c String>>) {
    let mut child = move |path: String, line: usize, node: &Node| {
        above.entry(line).or_default().extend(comments.get(&path).into_iter().flatten());
        place(node, &path, comments, above);
    };
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                child(path, entry.mark.line, &entry.node);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                child(format!("{path}[{index}]"), item.mark.line, item);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_comment_stands_above_what_it_is_about() {
        let value =
            json!({"a": 1, "list": [{"x": "text\n  # no comment\nb: 1", "b": {"c": "yes"}}, {"x": 2}], "b": {"c": 3}});
        let comments = [
            ("list[0]", "the item"),
            ("list[0].x", "its first"),
            ("list[0].b.c", "inside"),
            ("b.c", "last"),
            ("z", "?"),
        ];
        let comments = Comments::from(comments.map(|(path, text)| (path.to_owned(), vec![text.to_owned()])));
        let text = write(&value, &["head".to_owned()], &comments).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let before = |comment: &str| {
            let index = lines.iter().position(|line| *line == format!("# {comment}")).unwrap();
            lines[index + 1..].iter().find(|line| !line.starts_with('#')).copied().unwrap_or_default()
        };
        assert_eq!(lines[0], "# head");
        assert!(before("the item").starts_with("- x:") && before("its first").starts_with("- x:"), "{text}");
        assert!(before("inside").contains("yes") && before("last") == "c: 3", "{text}");
        assert!(!text.contains('?'));
        // What was a text stays one, whatever it looks like.
        let read = |text: &str| yaml::to_string(&serde_yaml::from_str::<Json>(text).unwrap()).unwrap();
        assert_eq!(read(&text), read(&yaml::to_string(&value).unwrap()));
    }
}
