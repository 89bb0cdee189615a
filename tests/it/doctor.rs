//! The checks of `coracle doctor` against their page, and against the tests that provoke them.

use std::fmt::Write as _;

use coracle::host::checks::{Id, Severity};

use crate::command_line::coracle;
use crate::sources::{files, read, table_on_page};

/// The list in the code, as a table.
fn table() -> String {
    let mut table =
        "| check | kind | what is looked at | what a failure means | what to do |\n|---|---|---|---|---|\n".to_owned();
    for id in Id::ALL {
        let row = id.row();
        let kind = match (row.severity, row.in_create) {
            (Severity::Error, true) => "error, refused by `create`",
            (Severity::Warning, true) => "warning, also by `create`",
            (severity, _) => severity.as_str(),
        };
        let _ = writeln!(table, "| `{}` | {kind} | {} | {} | {} |", row.id, row.looks_at, row.means, row.helps);
    }
    table
}

#[test]
fn the_page_has_the_checks_that_the_code_has() {
    table_on_page("doctor.md", "<!-- checks -->", &table());
}

#[test]
fn every_check_is_provoked_by_a_test() {
    let is_test = |path: &String| path.ends_with("tests.rs") || path.starts_with("tests/cluster/");
    let mut tests: String = ["src", "tests/cluster"]
        .iter()
        .flat_map(|directory| files(directory, ".rs"))
        .filter(is_test)
        .map(|path| read(&path))
        .collect();
    for path in files("src", ".rs") {
        let text = read(&path);
        tests.push_str(text.split_once("\nmod tests {").map_or("", |(_, tests)| tests));
    }
    let is_named = |id: &Id| {
        let (text, variant) = (format!("\"{}\"", id.row().id), format!("Id::{id:?}"));
        let is_whole = |rest: &str| !rest.starts_with(char::is_alphanumeric);
        tests.contains(&text) || tests.split(&variant).skip(1).any(is_whole)
    };
    let lost: Vec<&str> = Id::ALL.iter().filter(|id| !is_named(id)).map(|id| id.row().id).collect();
    assert_eq!(lost, Vec::<&str>::new());
}

#[test]
fn without_an_engine_it_tells_what_it_can_and_ends_with_4() {
    let said = coracle(["doctor"]);
    assert_eq!(said.code, 4, "{}", said.stderr);
    assert!(said.stdout.starts_with("error engine-unreachable: "), "{}", said.stdout);
    assert!(said.stdout.contains("\n  do: ") && said.stdout.ends_with("; 1 error\n"), "{}", said.stdout);
    let said = coracle(["doctor", "--check", "docker-config", "--output", "json"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let value: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(value["checks"], serde_json::json!([{"id": "docker-config", "result": "ok"}]));
}
