//! kind's `containerdConfigPatchesJSON6902`: operations that set something are tables to merge, like any other patch.

use toml::{Table, Value as Toml};

use super::patch::steps;
use crate::config::reader::{Field, Reader};
use crate::config::value::{Node, Value, quoted};

/// The table that the operations of a patch set; what cannot be written as one is reported at its place.
pub(super) fn table(reader: &mut Reader<'_>, patch: &Field<'_>) -> Table {
    let mut table = Table::new();
    let Some(node) = reader.embedded(patch) else { return table };
    let Value::List(operations) = &node.value else {
        reader.problem(node.mark, "a JSON patch must be a list of operations");
        return table;
    };
    for operation in operations {
        if let Err(message) = operate(&mut table, operation) {
            reader.problem(operation.mark, message);
        }
    }
    table
}

fn operate(table: &mut Table, operation: &Node) -> Result<(), String> {
    let text = |name: &str| match operation.value.get(name).map(|node| &node.value) {
        Some(Value::Text(text, _)) => Ok(text.as_str()),
        _ => Err(format!("the operation has no `{name}`")),
    };
    let (op, path) = (text("op")?, text("path")?);
    if !["add", "replace"].contains(&op) {
        return Err(format!(
            "coracle cannot {} something in containerd's configuration; `add` and `replace` set it, as \
             `containerdConfigPatches` do",
            quoted(op)
        ));
    }
    let value = operation.value.get("value").ok_or("the operation has no `value`")?;
    let value = toml(&value.value).ok_or_else(|| format!("the value of {} is not one of TOML", quoted(path)))?;
    let steps = steps(path)?;
    let (last, parents) = steps.split_last().ok_or("the path is empty")?;
    let mut at = table;
    for step in parents {
        let below = at.entry(step.clone()).or_insert_with(|| Toml::Table(Table::new()));
        at = below.as_table_mut().ok_or_else(|| format!("{} is in a list or a value", quoted(path)))?;
    }
    if last == "-" || last.parse::<usize>().is_ok() {
        return Err(format!("{} is in a list; set the whole list", quoted(path)));
    }
    at.insert(last.clone(), value);
    Ok(())
}

/// A value as TOML has it, which knows no `null`.
fn toml(value: &Value) -> Option<Toml> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => Toml::Boolean(*value),
        Value::Number(Some(number), _) => Toml::Integer(*number),
        Value::Number(None, text) => Toml::Float(text.parse().ok()?),
        Value::Text(text, _) => Toml::String(text.clone()),
        Value::List(items) => Toml::Array(items.iter().map(|item| toml(&item.value)).collect::<Option<_>>()?),
        Value::Map(entries) => {
            let pair = |entry: &crate::config::value::Entry| Some((entry.key.clone(), toml(&entry.node.value)?));
            Toml::Table(entries.iter().map(pair).collect::<Option<_>>()?)
        }
    })
}
