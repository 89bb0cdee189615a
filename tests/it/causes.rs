//! The causes of a failed `create` against their page, and against the tests that provoke them.

use std::fmt::Write as _;

use coracle::cluster::health::causes::Cause;

use crate::sources::{page, read, root};

/// Between these lines of the page is the table.
const BEGIN: &str = "<!-- causes -->";
const END: &str = "<!-- end -->";

/// The list in the code, as a table.
fn table() -> String {
    let mut table = "| cause | what is looked at | what it means | what to do |\n|---|---|---|---|\n".to_owned();
    for cause in Cause::ALL {
        let row = cause.row();
        let _ = writeln!(table, "| `{}` | {} | {} | {} |", row.id, row.looks_at, row.means, row.helps);
    }
    table
}

/// `CORACLE_UPDATE=1 cargo test --test it causes` writes it.
#[test]
fn the_page_has_the_causes_that_the_code_has() {
    let name = page("failed-create.md");
    let text = read(&name);
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let wanted = format!("\n\n{}\n", table());
    if std::env::var_os("CORACLE_UPDATE").is_some() {
        std::fs::write(root().join(&name), format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert!(found == wanted, "`CORACLE_UPDATE=1 cargo test --test it causes` writes the table of {name}");
}

#[test]
fn every_cause_is_provoked_on_a_real_node_or_is_said_not_to_be() {
    let files = ["failures.rs", "explain.rs", "engine/full.sh"];
    let tests = files.map(|name| read(&format!("tests/cluster/scenarios/{name}"))).concat();
    let text = read(&page("failed-create.md"));
    let (_, apart) = text.split_once("## What no test provokes").unwrap();
    let marks = |id: &str| [format!("\"{id}\", &"), format!("cause[{id}]"), format!("said\" {id} ")];
    let is_named = |id: &str| marks(id).iter().any(|mark| tests.contains(mark));
    for cause in Cause::ALL {
        let id = cause.row().id;
        assert!(
            is_named(id) != apart.contains(&format!("- `{id}`: ")),
            "`{id}` is provoked by no test, or by one although the page denies it"
        );
    }
}
