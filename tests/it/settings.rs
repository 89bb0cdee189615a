//! Every setting stands in the documentation: the fields of the configuration file, and variables of the environment.

use std::collections::BTreeSet;

use coracle::config::{Overrides, load};

use crate::layers::tokens;
use crate::sources::{files, page, read, root};

/// A field that does not exist, and is not close to one that does.
const NOT_A_FIELD: &str = "zzzzzzzzzzzzzzzzzzzzzzzz";

/// The fields that are known in the mapping at this path, as the error about one that is not lists them; none where any
/// name is good, or no mapping is wanted. `[]` stands for an item of a list: `nodes[].taints[]`.
pub(crate) fn known(path: &str) -> Vec<String> {
    let mut text = format!("{{{NOT_A_FIELD}: 1}}");
    for part in path.split('.').rev().filter(|part| !part.is_empty()) {
        text = match part.strip_suffix("[]") {
            Some(name) => format!("{{{name}: [{text}]}}"),
            None => format!("{{{part}: {text}}}"),
        };
    }
    let problems = load(&text, "probe.yaml", &Overrides::default()).map_err(|error| error.problems().to_vec());
    let problems = problems.err().unwrap_or_default();
    let sentence = problems.iter().find(|problem| {
        let place = text.find(NOT_A_FIELD).unwrap() + 1;
        problem.place == format!("probe.yaml:1:{place}") && problem.message.starts_with("unknown field ")
    });
    let Some(sentence) = sentence else { return Vec::new() };
    let (_, names) = sentence.message.rsplit_once("; the fields here are ").unwrap();
    names.split(", ").map(str::to_owned).collect()
}

/// Every field with the path of the mapping that it is in.
fn fields() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut open = vec![String::new()];
    while let Some(path) = open.pop() {
        for name in known(&path) {
            let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            open.extend([below.clone(), format!("{below}[]")]);
            all.push((path.clone(), name));
        }
    }
    all
}

/// Whether a line is the row of this field in a table.
pub(crate) fn is_row(line: &str, field: &str) -> bool {
    let cell = line.strip_prefix("| ").unwrap_or_default().trim_start_matches('[');
    cell.strip_prefix('`').and_then(|cell| cell.strip_prefix(field)).is_some_and(|rest| rest.starts_with('`'))
}

/// The parts of the page between its headings, with the heading in lower case and without signs.
pub(crate) fn sections(page: &str) -> Vec<(String, Vec<&str>)> {
    let mut sections = vec![(String::new(), Vec::new())];
    for line in page.lines() {
        if line.starts_with('#') {
            let title = line.trim_start_matches('#').trim().replace('`', "").to_lowercase();
            sections.push((title, Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line);
        }
    }
    sections
}

/// The fields that the page about the configuration file leaves out. A field has a row in the section that is named after
/// its mapping. Where there is none, the mapping's own row says it, or the page that it leads to.
fn left_out(page: &str, directory: &str, fields: &[(String, String)]) -> Vec<String> {
    let sections = sections(page);
    let has_row = |lines: &[&str], name: &str| lines.iter().any(|line| is_row(line, name));
    let mut left_out = Vec::new();
    for (path, name) in fields {
        let mapping = path.rsplit('.').next().unwrap_or_default().trim_end_matches("[]");
        let named = sections.iter().find(|(title, lines)| match mapping {
            "" => has_row(lines, "apiVersion"),
            _ => *title == mapping.to_lowercase(),
        });
        let is_told = if let Some((_, lines)) = named {
            has_row(lines, name)
        } else {
            let row = page.lines().find(|line| is_row(line, mapping)).unwrap_or_default();
            let link = row.split("](").nth(1).and_then(|rest| rest.split(['#', ')']).next()).unwrap_or_default();
            let linked = format!("{directory}/{link}");
            let more = if root().join(&linked).is_file() { read(&linked) } else { String::new() };
            [row, &more].iter().any(|text| text.contains(&format!("`{name}`")))
        };
        if !is_told {
            left_out.push(format!("{path}.{name}").trim_start_matches('.').to_owned());
        }
    }
    left_out
}

#[test]
fn every_field_of_the_configuration_is_documented() {
    let fields = fields();
    let has = |path: &str, name: &str| fields.contains(&(path.to_owned(), name.to_owned()));
    let enough = has("", "apiVersion") && has("nodes[].taints[]", "effect") && has("networking", "podSubnet");
    assert!(enough, "the error about an unknown field no longer lists the known ones: {fields:?}");
    let path = page("configuration.md");
    let (directory, _) = path.rsplit_once('/').unwrap();
    let page = read(&path);
    assert_eq!(left_out(&page, directory, &fields), Vec::<String>::new(), "not in {path}");
    // The same page without a line is a page that leaves something out.
    for (path, name) in fields.iter().filter(|(path, _)| !path.starts_with("registries") && path != "coreDNS") {
        let without = |number: usize| {
            let lines = page.lines().enumerate().filter(|(index, _)| *index != number);
            lines.map(|(_, line)| line).collect::<Vec<_>>().join("\n")
        };
        let rows = page.lines().enumerate().filter(|(_, line)| is_row(line, name)).map(|(number, _)| number);
        let full = format!("{path}.{name}").trim_start_matches('.').to_owned();
        let noticed = |number| left_out(&without(number), directory, &fields).contains(&full);
        assert!(rows.into_iter().any(noticed), "nobody would notice that `{full}` is gone");
    }
}

#[test]
fn every_variable_that_the_command_reads_is_documented() {
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let mut variables = BTreeSet::new();
    for path in files("src", ".rs") {
        for token in tokens(&read(&path)).into_iter().filter(|token| token.quoted) {
            let text = token.text.trim_matches('"');
            if text.starts_with("CORACLE_") && is_name(text) {
                variables.insert(text.to_owned());
            }
        }
    }
    assert!(variables.contains("CORACLE_CLUSTER_NAME"), "{variables:?}");
    let pages: String = files("docs", ".md").iter().chain([&"README.md".to_owned()]).map(|path| read(path)).collect();
    variables.retain(|name| !pages.contains(&format!("`{name}")));
    assert_eq!(variables, BTreeSet::new(), "in no page");
}
