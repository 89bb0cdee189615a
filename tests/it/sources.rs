//! Finds and reads the files of the repository.

use std::path::Path;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `directory` of the repository with this ending, sorted, as paths relative to the repository.
pub(crate) fn files(directory: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name();
            let hidden = name.to_string_lossy().starts_with('.') || name == "target";
            if entry.file_type().unwrap().is_dir() && !hidden {
                open.push(entry.path());
            } else if name.to_string_lossy().ends_with(ending) && !hidden {
                found.push(relative(&entry.path()));
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// The text of a file of the repository.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The page of the documentation with this name, in whatever directory it is.
pub(crate) fn page(name: &str) -> String {
    let pages = files("docs", ".md").into_iter().filter(|path| path.ends_with(&format!("/{name}")));
    let pages: Vec<String> = pages.collect();
    assert_eq!(pages.len(), 1, "{name}: {pages:?}");
    pages.concat()
}

/// The table of a page, between two comments, is this one. `CORACLE_UPDATE=1 cargo test --test it` writes it.
pub(crate) fn table_on_page(name: &str, begin: &str, wanted: &str) {
    const END: &str = "<!-- end -->";
    let name = page(name);
    let text = read(&name);
    let (before, rest) = text.split_once(begin).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let wanted = format!("\n\n{wanted}\n");
    if std::env::var_os("CORACLE_UPDATE").is_some() {
        std::fs::write(root().join(&name), format!("{before}{begin}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert!(found == wanted, "`CORACLE_UPDATE=1 cargo test --test it` writes the table of {name}");
}
