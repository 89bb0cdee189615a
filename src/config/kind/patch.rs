//! Patches as kind applies them to kubeadm's documents: merge patches (RFC 7386) and JSON patches (RFC 6902), on trees in
//! which every value keeps the place that it has in the file.

use crate::config::value::{Entry, Mark, Node, Value, quoted};

/// Merges `patch` into `target`: mappings merge, `null` removes, everything else replaces.
pub(super) fn merge(target: &mut Node, patch: &Node) {
    let Value::Map(changes) = &patch.value else {
        *target = patch.clone();
        return;
    };
    if !matches!(target.value, Value::Map(_)) {
        *target = Node { mark: patch.mark, value: Value::Map(Vec::new()) };
    }
    let Value::Map(entries) = &mut target.value else { return };
    for change in changes {
        let known = entries.iter().position(|entry| entry.key == change.key);
        match (known, &change.node.value) {
            (Some(index), Value::Null) => drop(entries.remove(index)),
            (None, Value::Null) => {}
            (Some(index), _) => {
                merge(&mut entries[index].node, &change.node);
                entries[index].mark = change.mark;
            }
            (None, _) => {
                let mut node = Node { mark: change.node.mark, value: Value::Null };
                merge(&mut node, &change.node);
                entries.push(Entry { key: change.key.clone(), mark: change.mark, node });
            }
        }
    }
}

/// The merge patch that makes `new` of `old`; `None` if they are equal.
pub(super) fn difference(old: &Node, new: &Node) -> Option<Node> {
    let (Value::Map(before), Value::Map(after)) = (&old.value, &new.value) else {
        return (!is_same(&old.value, &new.value)).then(|| new.clone());
    };
    let mut entries = Vec::new();
    for entry in after {
        let node = match before.iter().find(|other| other.key == entry.key) {
            Some(other) => difference(&other.node, &entry.node),
            None => Some(entry.node.clone()),
        };
        entries.extend(node.map(|node| Entry { node, ..entry.clone() }));
    }
    for gone in before.iter().filter(|entry| after.iter().all(|other| other.key != entry.key)) {
        entries.push(Entry {
            node: Node { mark: new.mark, value: Value::Null },
            mark: new.mark,
            key: gone.key.clone(),
        });
    }
    (!entries.is_empty()).then_some(Node { mark: new.mark, value: Value::Map(entries) })
}

/// Whether two values say the same, wherever they stand.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::Number(_, one) | Value::Text(one, _), Value::Number(_, other) | Value::Text(other, _)) => one == other,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(&one.value, &other.value))
        }
        (Value::Map(one), Value::Map(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|entry| other.iter().any(|o| o.key == entry.key && is_same(&entry.node.value, &o.node.value)))
        }
        _ => false,
    }
}

/// Applies the operations of a JSON patch in their order; the error has the place of the one that cannot be applied.
pub(super) fn apply(target: &mut Node, operations: &Node) -> Result<(), (Mark, String)> {
    let Value::List(operations) = &operations.value else {
        return Err((operations.mark, "a JSON patch must be a list of operations".to_owned()));
    };
    for operation in operations {
        operate(target, operation).map_err(|message| (operation.mark, message))?;
    }
    Ok(())
}

fn operate(target: &mut Node, operation: &Node) -> Result<(), String> {
    let text = |name: &str| match operation.value.get(name).map(|node| &node.value) {
        Some(Value::Text(text, _)) => Ok(text.as_str()),
        _ => Err(format!("the operation has no `{name}`")),
    };
    let value = || operation.value.get("value").ok_or("the operation has no `value`");
    let path = steps(text("path")?)?;
    match text("op")? {
        "add" => add(target, &path, value()?.clone()),
        "replace" => {
            *find(target, &path)? = value()?.clone();
            Ok(())
        }
        "remove" => remove(target, &path).map(drop),
        "move" => {
            let node = remove(target, &steps(text("from")?)?)?;
            add(target, &path, node)
        }
        "copy" => {
            let node = find(target, &steps(text("from")?)?)?.clone();
            add(target, &path, node)
        }
        "test" if is_same(&find(target, &path)?.value, &value()?.value) => Ok(()),
        "test" => Err(format!("the test of {} fails", quoted(text("path")?))),
        other => Err(format!("a JSON patch has no operation {}", quoted(other))),
    }
}

/// The steps of a JSON pointer.
pub(super) fn steps(pointer: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("the path {} must begin with `/`", quoted(pointer));
    let rest = pointer.strip_prefix('/').ok_or_else(wrong)?;
    Ok(rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
}

fn missing(path: &[String]) -> String {
    format!("there is nothing at {}", quoted(&format!("/{}", path.join("/"))))
}

fn find<'n>(target: &'n mut Node, path: &[String]) -> Result<&'n mut Node, String> {
    let mut node = target;
    for step in path {
        node = match &mut node.value {
            Value::Map(entries) => entries.iter_mut().find(|entry| entry.key == *step).map(|entry| &mut entry.node),
            Value::List(items) => step.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
            _ => None,
        }
        .ok_or_else(|| missing(path))?;
    }
    Ok(node)
}

fn add(target: &mut Node, path: &[String], node: Node) -> Result<(), String> {
    let Some((last, parents)) = path.split_last() else { return Err("the path is empty".to_owned()) };
    let parent = find(target, parents)?;
    match &mut parent.value {
        Value::Map(entries) => {
            entries.retain(|entry| entry.key != *last);
            entries.push(Entry { key: last.clone(), mark: node.mark, node });
            Ok(())
        }
        Value::List(items) => {
            let index = if last == "-" { Some(items.len()) } else { last.parse().ok() };
            let index = index.filter(|index| *index <= items.len()).ok_or_else(|| missing(path))?;
            items.insert(index, node);
            Ok(())
        }
        _ => Err(missing(path)),
    }
}

fn remove(target: &mut Node, path: &[String]) -> Result<Node, String> {
    let Some((last, parents)) = path.split_last() else { return Err("the path is empty".to_owned()) };
    let parent = find(target, parents)?;
    let removed = match &mut parent.value {
        Value::Map(entries) => {
            entries.iter().position(|entry| entry.key == *last).map(|index| entries.remove(index).node)
        }
        Value::List(items) => {
            last.parse().ok().filter(|index| *index < items.len()).map(|index: usize| items.remove(index))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::parse;

    fn node(text: &str) -> Node {
        parse(text).unwrap().unwrap()
    }

    /// A tree in one line.
    fn line(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(_, text) | Value::Text(text, _) => text.clone(),
            Value::List(items) => format!("[{}]", items.iter().map(line).collect::<Vec<_>>().join(", ")),
            Value::Map(entries) => {
                let pair = |entry: &Entry| format!("{}: {}", entry.key, line(&entry.node));
                format!("{{{}}}", entries.iter().map(pair).collect::<Vec<_>>().join(", "))
            }
        }
    }

    #[test]
    fn a_difference_merged_into_the_old_gives_the_new() {
        let old = node("{a: {b: 1, c: 2}, d: [1], e: x}");
        let new = node("{a: {c: 3, f: 4}, d: [1], g: {}}");
        let patch = difference(&old, &new).unwrap();
        assert_eq!(line(&patch), "{a: {c: 3, f: 4, b: null}, g: {}, e: null}");
        let mut merged = old.clone();
        merge(&mut merged, &patch);
        assert!(difference(&merged, &new).is_none(), "{}", line(&merged));
    }

    #[test]
    fn operations_change_what_is_there() {
        let mut target = node("{a: {list: [x, y]}, b/c: 1}");
        let operations = "[{op: add, path: /a/list/-, value: z}, {op: add, path: /a/list/0, value: w},\
             {op: remove, path: /a/list/1}, {op: replace, path: /b~1c, value: 2}, {op: test, path: /b~1c, value: 2},\
             {op: copy, from: /a/list, path: /d}, {op: move, from: /a, path: /e}]";
        apply(&mut target, &node(operations)).unwrap();
        assert_eq!(line(&target), "{b/c: 2, d: [w, y, z], e: {list: [w, y, z]}}");
    }

    #[test]
    fn an_operation_that_cannot_be_applied_is_named_with_its_place() {
        for (operations, message) in [
            ("{op: add}", "must be a list"),
            ("[{op: add, path: /x/y, value: 1}]", "nothing at `/x`"),
            ("[{op: remove, path: /x}]", "nothing at `/x`"),
            ("[{op: replace, path: /x, value: 1}]", "nothing at `/x`"),
            ("[{op: add, path: a, value: 1}]", "must begin with `/`"),
            ("[{op: add, path: /b}]", "no `value`"),
            ("[{op: test, path: /a, value: 2}]", "fails"),
            ("[{op: put, path: /a, value: 2}]", "no operation `put`"),
        ] {
            let failed = apply(&mut node("a: 1"), &node(operations)).unwrap_err();
            assert!(failed.1.contains(message), "{operations}: {}", failed.1);
        }
    }
}
