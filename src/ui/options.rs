//! What decides how messages are written.

use std::io::{self, IsTerminal};

/// How progress and errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: a tree on a terminal, plain lines elsewhere.
    #[default]
    Plain,
    /// One JSON object per line on stdout, the last one being the result or the error; text for people as well.
    Json,
}

/// What decides how [`Ui`](crate::ui::Ui) writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch of the command line or of the terminal")]
pub struct UiOptions {
    /// Write nothing but data and errors.
    pub quiet: bool,
    /// How progress and errors are written.
    pub format: Format,
    /// Colour the text on stderr.
    pub color: bool,
    /// Stderr is a terminal on which lines can be redrawn.
    pub terminal: bool,
    /// The terminal's character set has `✓` and `•`.
    pub unicode: bool,
    /// How often `-v` was given; from 1 on, details show as lines of their own.
    pub verbose: u8,
}

impl UiOptions {
    /// The options of this process's stderr and environment; the command line then changes the rest.
    pub fn from_env() -> Self {
        Self::detect(io::stderr().is_terminal(), |name| std::env::var(name).ok())
    }

    /// The options for a stderr that is a terminal or not, and environment variables.
    pub fn detect(stderr_is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        // CI services set `CI` and some of them attach a terminal whose log keeps every redrawn line.
        let ci = set("CI").is_some_and(|value| value != "false" && value != "0");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let locale = locale.to_ascii_lowercase().replace('-', "");
        Self {
            color: stderr_is_terminal && !dumb && set("NO_COLOR").is_none(),
            terminal: stderr_is_terminal && !dumb && !ci,
            unicode: locale.contains("utf8"),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(terminal: bool, variables: &[(&str, &str)]) -> UiOptions {
        UiOptions::detect(terminal, |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_decides_color_and_tree() {
        let plain = options(true, &[("TERM", "xterm"), ("LANG", "en_US.UTF-8")]);
        assert!(plain.color && plain.terminal && plain.unicode);
        assert!(!options(true, &[("TERM", "xterm"), ("NO_COLOR", "1")]).color);
        assert!(options(true, &[("TERM", "xterm"), ("NO_COLOR", "")]).color);
        assert!(!options(true, &[("TERM", "xterm"), ("CI", "true")]).terminal);
        assert!(!options(true, &[("TERM", "dumb")]).terminal);
        assert!(!options(false, &[("TERM", "xterm")]).terminal);
        assert!(!options(true, &[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]).unicode);
        assert!(options(true, &[("LC_ALL", ""), ("LANG", "C.utf8")]).unicode);
    }
}
