//! One line on standard output per change or failure.

use std::fmt::Arguments;

/// Writes one line; `kubectl logs` adds the time.
#[expect(clippy::print_stdout, reason = "the agent's log is its standard output")]
pub(crate) fn line(text: Arguments<'_>) {
    println!("{text}");
}

/// Logs a failure once, and again only if it changes or returns after a success.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    last: Option<String>,
}

impl Failures {
    /// Logs the failure unless it is the one that was logged last.
    pub(crate) fn report(&mut self, text: String) {
        if self.last.as_deref() != Some(text.as_str()) {
            line(format_args!("{text}"));
            self.last = Some(text);
        }
    }

    /// Forgets the last failure, because it is over.
    pub(crate) fn clear(&mut self) {
        self.last = None;
    }
}
