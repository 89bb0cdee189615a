//! `docs/reference/errors.md` against the error codes.

use std::collections::BTreeMap;

use coracle::error::Code;

use crate::sources::{files, page, read};

/// The sections of the page: ID and what follows its heading.
fn sections() -> BTreeMap<String, String> {
    let page = read(&page("errors.md"));
    page.split("\n### `")
        .skip(1)
        .map(|section| {
            let (id, text) = section.split_once("`\n").unwrap();
            (id.to_owned(), text.split("\n## ").next().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn every_error_is_described_with_its_exit_code() {
    let sections = sections();
    for code in Code::ALL {
        let text = sections.get(code.id()).unwrap_or_else(|| panic!("`{}` has no section", code.id()));
        let exit = format!("Exit code {}.", code.exit_code());
        assert!(text.contains(&exit), "`{}` does not say `{exit}`", code.id());
        assert!(text.contains("**Do:**"), "`{}` does not say what to do", code.id());
    }
}

#[test]
fn no_error_is_described_that_does_not_exist() {
    let ids: Vec<&str> = Code::ALL.iter().map(|code| code.id()).collect();
    let unknown: Vec<String> = sections().into_keys().filter(|id| !ids.contains(&id.as_str())).collect();
    assert_eq!(unknown, Vec::<String>::new());
}

/// In a test, an ID stands in quotation marks or as `error[ID]`.
#[test]
fn every_error_is_provoked_by_a_test_of_the_command() {
    let tests: String = ["rs", "sh"]
        .iter()
        .flat_map(|kind| files("tests", &format!(".{kind}")))
        .filter(|path| !path.ends_with("it/errors.rs"))
        .map(|path| read(&path))
        .collect();
    let is_named = |id: &str| [format!("error[{id}]"), format!("\"{id}\"")].iter().any(|text| tests.contains(text));
    let lost: Vec<&str> = Code::ALL.iter().map(|code| code.id()).filter(|id| !is_named(id)).collect();
    assert_eq!(lost, Vec::<&str>::new());
}
