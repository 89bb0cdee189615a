//! The table in `docs/architecture.md` says which module uses which, and the sources do so.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::Graph;
use crate::sources::read;

/// How the table begins.
const HEAD: &str = "| module | what it is | uses |";

fn page() -> String {
    read(&crate::sources::page("architecture.md"))
}

/// The table: each module, with what it may use besides itself.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let page = page();
    let rows = page.lines().skip_while(|line| *line != HEAD).skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let cells: Vec<&str> = row.split('|').collect();
        (names(cells[1]).concat(), names(cells[3]).into_iter().collect())
    })
    .collect()
}

/// The modules of the crate, with what each one uses and where.
fn used() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut used: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for module in read("src/lib.rs").lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        used.insert(module.to_owned(), BTreeMap::new());
    }
    for one in Graph::of("src/lib.rs").uses() {
        if one.from[0] != one.to[0] {
            used.entry(one.from[0].clone()).or_default().entry(one.to[0].clone()).or_insert(one.place);
        }
    }
    used
}

#[test]
fn modules_use_what_the_documentation_says_and_nothing_else() {
    let (allowed, used) = (allowed(), used());
    let mut wrong = Vec::new();
    for (module, uses) in &used {
        let Some(row) = allowed.get(module) else {
            wrong.push(format!("`{module}` is not in the table"));
            continue;
        };
        let new = uses.iter().filter(|(name, _)| !row.contains(*name));
        wrong.extend(new.map(|(name, place)| format!("`{module}` uses `{name}`, and the table does not: {place}")));
        let gone = row.iter().filter(|name| !uses.contains_key(*name));
        wrong.extend(gone.map(|name| format!("the table says that `{module}` uses `{name}`, and it does not")));
    }
    let unknown = allowed.keys().filter(|module| !used.contains_key(*module));
    wrong.extend(unknown.map(|module| format!("`{module}` is in the table, and there is no such module")));
    assert!(wrong.is_empty(), "docs/architecture.md, section Layers:\n{}", wrong.join("\n"));
}

#[test]
fn a_row_is_below_everything_it_uses() {
    let page = page();
    let names: Vec<String> = allowed().into_keys().collect();
    let place = |name: &String| page.find(&format!("\n| `{name}` |"));
    for (module, uses) in allowed() {
        for name in uses {
            assert!(names.contains(&name), "`{module}` uses `{name}`, which has no row");
            assert!(place(&module) < place(&name), "`{module}` uses `{name}`, and is not above it");
        }
    }
}

#[test]
fn the_library_only_declares_and_the_command_only_starts_it() {
    let is_declaration = |line: &&str| line.is_empty() || line.starts_with("//") || line.starts_with("pub mod ");
    assert_eq!(read("src/lib.rs").lines().filter(|line| !is_declaration(line)).collect::<Vec<_>>(), Vec::<&str>::new());
    let command = read("src/main.rs");
    let used: Vec<&str> = command.split("coracle::").skip(1).map(|rest| rest.split("::").next().unwrap()).collect();
    assert_eq!(used, ["cli"]);
}
