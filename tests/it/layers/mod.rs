//! The layers of `docs/architecture.md`, read out of the sources.

use crate::sources::{files, read};

mod circles;
mod graph;
mod table;
mod tokens;

pub(crate) use tokens::tokens;

/// Longest file, in lines.
const MAX_LINES: usize = 400;

/// The lines of a source file outside comments and its `tests` module, numbered.
fn code(path: &str) -> Vec<(usize, String)> {
    let text = read(path);
    let mut lines = Vec::new();
    let mut of_tests = false;
    for (index, line) in text.lines().enumerate() {
        // Unit tests are the last thing in a file; a single item for tests is followed by others.
        of_tests |= line.starts_with("mod tests") || line.starts_with("pub(crate) mod tests");
        if !of_tests && !line.trim_start().starts_with("//") {
            lines.push((index + 1, line.to_owned()));
        }
    }
    lines
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("tests.rs") || path.ends_with("/testing.rs")
}

/// Sources of the crate, without files that are tests only.
fn sources(directory: &str) -> Vec<String> {
    files(directory, ".rs").into_iter().filter(|path| !is_test_file(path)).collect()
}

/// Places outside of tests that contain one of the words.
fn places(paths: impl IntoIterator<Item = String>, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths {
        for (number, line) in code(&path) {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    found
}

#[test]
fn configuration_and_plan_are_pure() {
    let paths = sources("src/config").into_iter().chain(sources("src/plan"));
    let words = ["tokio", "std::env", "std::fs", "std::process", "std::net::Tcp", "SystemTime", "now_utc", "rand::"];
    assert_eq!(places(paths, &words), Vec::<String>::new());
}

/// Of the engine the plan knows what a container is, and nothing that does something.
#[test]
fn the_plan_uses_only_types_of_the_engine() {
    for path in sources("src/plan") {
        for (number, line) in code(&path) {
            let others = line.split("crate::engine::").skip(1).filter(|rest| !rest.starts_with("spec::"));
            assert_eq!(others.count(), 0, "{path}:{number} uses more of `engine` than `engine::spec`: {line}");
        }
    }
}

#[test]
fn only_the_engine_knows_its_client_library() {
    let others = sources("src").into_iter().filter(|path| !path.starts_with("src/engine/docker/"));
    assert_eq!(places(others, &["bollard"]), Vec::<String>::new());
}

#[test]
fn only_ui_speaks() {
    let others = sources("src").into_iter().filter(|path| !path.starts_with("src/ui/"));
    let words = ["println!(", "print!(", "dbg!(", "io::stdout()", "io::stderr()"];
    assert_eq!(places(others, &words), Vec::<String>::new());
}

#[test]
fn only_the_command_line_ends_the_process() {
    let others = sources("src").into_iter().filter(|path| !path.starts_with("src/cli/"));
    assert_eq!(places(others, &["process::exit(", "process::abort("]), Vec::<String>::new());
}

#[test]
fn only_the_agent_and_the_node_image_know_what_the_build_has_made() {
    // The node image is made of more files than the program, and takes all of them as they are.
    let own = ["src/agent.rs", "src/node_image/recipe.rs"];
    let others = sources("src").into_iter().filter(|path| !own.contains(&path.as_str()));
    assert_eq!(places(others, &["OUT_DIR"]), Vec::<String>::new());
}

#[test]
fn no_file_is_too_long_to_read() {
    let paths = ["src", "tests", "benches", "node-image/agent/src", "node-image/agent/tests", "node-image/shared/src"]
        .map(|directory| files(directory, ".rs"));
    let long: Vec<String> = paths
        .into_iter()
        .flatten()
        .map(|path| (read(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert_eq!(long, Vec::<String>::new());
}
