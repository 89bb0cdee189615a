//! The causes of a failed `create` against their page, and against the tests that provoke them.

use std::fmt::Write as _;

use coracle::cluster::health::causes::Cause;

use crate::sources::{page, read, table_on_page};

/// The list in the code, as a table.
fn table() -> String {
    let mut table = "| cause | what is looked at | what it means | what to do |\n|---|---|---|---|\n".to_owned();
    for cause in Cause::ALL {
        let row = cause.row();
        let _ = writeln!(table, "| `{}` | {} | {} | {} |", row.id, row.looks_at, row.means, row.helps);
    }
    table
}

#[test]
fn the_page_has_the_causes_that_the_code_has() {
    table_on_page("failed-create.md", "<!-- causes -->", &table());
}

#[test]
fn every_cause_is_provoked_on_a_real_node_or_is_said_not_to_be() {
    let files = ["failures.rs", "explain.rs", "engine/full.sh"];
    let tests = files.map(|name| read(&format!("tests/cluster/scenarios/{name}"))).concat();
    let text = read(&page("failed-create.md"));
    let (_, apart) = text.split_once("## Causes without a test on real nodes").unwrap();
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
