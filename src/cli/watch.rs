//! A text that is shown again and again: drawn anew on a terminal, and elsewhere its changed lines only.

use std::collections::BTreeSet;

use crate::cli::output::{OutputFormat, Printed};
use crate::error::Result;
use crate::ui::Ui;
use crate::ui::terminal;

/// The whole screen is cleared once; then each text is drawn over the one before, which does not flicker.
const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K\r\n";
const REST: &str = "\x1b[J";

/// Where the text is shown.
pub(super) struct Watch<'a> {
    ui: &'a Ui,
    draws: bool,
    shown: Option<BTreeSet<String>>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(ui: &'a Ui) -> Self {
        Self { ui, draws: terminal::draws(), shown: None }
    }

    /// Prints a result of now: its text, an object in one line, or a document. The value is as that of [`Self::show`].
    pub(super) fn print(&mut self, printed: &Printed<'_>, format: Option<OutputFormat>) -> Result<bool> {
        match format {
            None => self.show(&printed.render(None)?),
            Some(OutputFormat::Json) => self.ui.bytes(format!("{}\n", printed.value).as_bytes()),
            Some(format) => self.ui.bytes(format!("---\n{}", printed.render(Some(format))?).as_bytes()),
        }
    }

    /// Shows the text of now. The value is whether anyone still reads it.
    pub(super) fn show(&mut self, text: &str) -> Result<bool> {
        let news = if self.draws {
            let size = terminal::size().unwrap_or((u16::MAX, u16::MAX));
            drawn(text, (usize::from(size.0), usize::from(size.1)), self.shown.is_none())
        } else {
            changed(text, self.shown.as_ref())
        };
        self.shown = Some(text.lines().map(str::to_owned).collect());
        if news.is_empty() { Ok(true) } else { self.ui.bytes(news.as_bytes()) }
    }
}

/// What draws a text on a terminal of so many rows and columns. Longer lines are cut off: they would take two rows.
fn drawn(text: &str, (rows, columns): (usize, usize), is_first: bool) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let cut = |line: &&str| line.chars().take(columns).collect::<String>() + END_OF_LINE;
    let body: String = lines.iter().take(rows.saturating_sub(1)).map(cut).collect();
    format!("{}{HOME}{body}{REST}", if is_first { CLEAR } else { "" })
}

/// The lines that were not there before.
fn changed(text: &str, before: Option<&BTreeSet<String>>) -> String {
    let is_new = |line: &&str| before.is_none_or(|before| !before.contains(*line));
    text.lines().filter(is_new).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_only_what_changed_is_written() {
        let set = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(changed("a\nb\n", None), "a\nb\n");
        assert_eq!(changed("a\nb\n", Some(&set("a\nb\n"))), "");
        assert_eq!(changed("a\nc\n", Some(&set("a\nb\n"))), "c\n");
    }

    #[test]
    fn a_text_is_drawn_over_the_one_before_and_fits_the_terminal() {
        assert_eq!(drawn("ab\n", (24, 80), true), "\x1b[2J\x1b[Hab\x1b[K\r\n\x1b[J");
        assert_eq!(drawn("abc\nd\ne\n", (3, 2), false), "\x1b[Hab\x1b[K\r\nd\x1b[K\r\n\x1b[J");
    }
}
