//! An error as text for people and as an event for programs.

use std::fmt::Write;

use dialoguer::console::{measure_text_width, strip_ansi_codes};
use serde_json::{Value, json};

use crate::error::{Error, Problem, Snippet};
use crate::ui::screen::paint;

/// How many characters of a source line are shown around the column.
const SNIPPET_WIDTH: usize = 100;

/// Renders the error with all that is known about it, ending with a line end.
pub fn render(error: &Error, color: bool) -> String {
    let head = paint(&format!("error[{}]", error.code().id()), "1;31", color);
    let mut text = format!("{head}: {}\n", printable(error.message()));
    // Writing to a string cannot fail; so everywhere below.
    if let Some(node) = error.node() {
        let _ = writeln!(text, "  {} {}", paint("node:", "1", color), printable(node));
    }
    if let Some(cause) = error.cause() {
        let id = error.cause_id().map(|id| format!("[{id}]")).unwrap_or_default();
        let _ = writeln!(text, "  {} {}", paint(&format!("cause{id}:"), "1", color), printable(cause));
    }
    for problem in error.problems() {
        render_problem(&mut text, problem, color);
    }
    for line in error.lines() {
        let line = format!("  {} {}", paint("|", "2", color), printable(line));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for hint in error.hints() {
        let _ = writeln!(text, "  {} {}", paint("hint:", "36", color), printable(hint));
    }
    text
}

fn render_problem(text: &mut String, problem: &Problem, color: bool) {
    let arrow = paint("-->", "1;34", color);
    let _ = writeln!(text, "  {arrow} {}: {}", printable(&problem.place), printable(&problem.message));
    if let Some(snippet) = &problem.snippet {
        let number = snippet.line.to_string();
        let (source, indent) = window(snippet);
        let bar = paint("|", "1;34", color);
        let _ = writeln!(text, "    {} {bar} {source}", paint(&number, "1;34", color));
        let _ =
            writeln!(text, "    {} {bar} {}{}", " ".repeat(number.len()), " ".repeat(indent), paint("^", "31", color));
    }
}

/// The part of the source line around the column, and how many cells the caret is indented.
fn window(snippet: &Snippet) -> (String, usize) {
    let characters: Vec<char> = snippet.text.trim_end().chars().collect();
    let at = snippet.column.saturating_sub(1).min(characters.len());
    let first = if characters.len() <= SNIPPET_WIDTH { 0 } else { at.saturating_sub(SNIPPET_WIDTH / 2) };
    let last = characters.len().min(first + SNIPPET_WIDTH);
    let show = |from: usize, to: usize| printable(&characters[from..to].iter().collect::<String>());
    let (lead, trail) = (if first > 0 { "..." } else { "" }, if last < characters.len() { "..." } else { "" });
    let before = format!("{lead}{}", show(first, at.min(last)));
    let indent = measure_text_width(&before);
    (format!("{before}{}{trail}", show(at.min(last), last)), indent)
}

/// The error as the event that ends the events of a failed command.
pub(super) fn event(error: &Error) -> Value {
    let problems: Vec<Value> =
        error.problems().iter().map(|problem| json!({ "place": problem.place, "message": problem.message })).collect();
    json!({
        "event": "error",
        "id": error.code().id(),
        "message": error.message(),
        "node": error.node(),
        "cause": error.cause(),
        "causeId": error.cause_id(),
        "problems": problems,
        "lines": error.lines(),
        "hints": error.hints(),
        "exitCode": error.code().exit_code(),
    })
}

/// One line of text that cannot move the cursor or change colours: log lines come from anywhere.
fn printable(text: &str) -> String {
    let plain = strip_ansi_codes(text);
    let mut line = String::with_capacity(plain.len());
    for character in plain.trim_end_matches(['\r', '\n']).chars() {
        match character {
            '\t' => line.push_str("    "),
            '\n' => line.push_str("\n    "),
            '\r' => {}
            other if other.is_control() => line.push(char::REPLACEMENT_CHARACTER),
            other => line.push(other),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn everything_known_is_rendered() {
        let error = Error::new(Code::NotReady, "the API server did not answer")
            .on_node("dev-control-plane")
            .because("timed out after 60 s")
            .with_lines(["E1 \x1b[31mfailed\x1b[0m\r", "", "\ttab"])
            .hint("coracle export logs")
            .hint("docker logs dev-control-plane");
        assert_eq!(
            render(&error, false),
            "error[not-ready]: the API server did not answer\n  node: dev-control-plane\n  cause: timed out after 60 s\n\
             \x20 | E1 failed\n  |\n  |     tab\n  hint: coracle export logs\n  hint: docker logs dev-control-plane\n"
        );
    }

    fn problem(line: usize, column: usize, source: &str) -> Error {
        Error::new(Code::ConfigInvalid, "the configuration has 1 mistake").with_problems(vec![Problem {
            place: format!("cluster.yaml:{line}:{column}"),
            message: "unknown field `rolle`".to_owned(),
            snippet: Some(Snippet { line, column, text: source.to_owned() }),
        }])
    }

    #[test]
    fn the_caret_is_below_the_column() {
        assert_eq!(
            render(&problem(14, 5, "  - rolle: worker\n"), false),
            "error[config-invalid]: the configuration has 1 mistake\n  --> cluster.yaml:14:5: unknown field `rolle`\n    \
             14 |   - rolle: worker\n       |     ^\n"
        );
    }

    #[test]
    fn the_caret_counts_cells_and_copes_with_odd_columns() {
        assert!(render(&problem(1, 4, "日本:x"), false).ends_with("1 | 日本:x\n      |      ^\n"));
        assert!(render(&problem(1, 2, "\tx"), false).ends_with("1 |     x\n      |     ^\n"));
        assert!(render(&problem(1, 99, "abc"), false).ends_with("1 | abc\n      |    ^\n"));
        assert!(render(&problem(1, 0, ""), false).ends_with("1 | \n      | ^\n"));
    }

    #[test]
    fn long_source_lines_are_cut_around_the_column() {
        let source = format!("{}HERE{}", "a".repeat(5000), "b".repeat(5000));
        let text = render(&problem(1, 5001, &source), false);
        assert!(text.lines().all(|line| line.len() < 130), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[2].find("HERE"), lines[3].find('^'));
    }

    #[test]
    fn color_only_adds_escapes() {
        let error = problem(1, 1, "x").hint("fix it");
        let colored = render(&error, true);
        assert!(colored.contains("\x1b[1;31merror[config-invalid]\x1b[0m"));
        assert_eq!(strip_ansi_codes(&colored), render(&error, false));
    }
}
