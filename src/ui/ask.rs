//! Questions.

use std::io::{self, IsTerminal};

use dialoguer::{Confirm, Input, MultiSelect};

use super::{Format, Ui};
use crate::error::{Code, Error, Result};

impl Ui {
    /// Whether there is a terminal to ask on.
    pub fn can_ask(&self) -> bool {
        let options = self.options();
        io::stdin().is_terminal() && options.terminal && options.format == Format::Plain
    }

    /// Asks a yes-or-no question; the answer is no where there is no terminal to ask on.
    ///
    /// For what replaces something: it asks before it does, unless an option says that it may.
    pub fn confirm(&self, question: &str) -> Result<bool> {
        if !self.can_ask() {
            return Ok(false);
        }
        self.asked(|| Confirm::new().with_prompt(question).default(false).interact())
    }

    /// Asks for a line, until `read` accepts it. Where there is no terminal to ask on, it is the usual one.
    pub fn ask<T>(
        &self,
        question: &str,
        usual: &str,
        read: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let is_read = |text: &String| read(text).map(|_| ());
        let text = if self.can_ask() {
            let input = Input::<String>::new().with_prompt(question).allow_empty(true);
            let input = if usual.is_empty() { input } else { input.default(usual.to_owned()) };
            self.asked(|| input.validate_with(is_read).interact_text())?
        } else {
            usual.to_owned()
        };
        read(&text).map_err(|cause| Error::new(Code::UsageInvalid, "the answer cannot be used").because(cause))
    }

    /// Asks which of several are wanted, and returns their indices; none where there is no terminal to ask on.
    pub fn choose(&self, question: &str, from: &[String]) -> Result<Vec<usize>> {
        if !self.can_ask() {
            return Ok(Vec::new());
        }
        self.asked(|| MultiSelect::new().with_prompt(question).items(from).interact())
    }

    fn asked<T>(&self, ask: impl FnOnce() -> dialoguer::Result<T>) -> Result<T> {
        self.0
            .undisturbed(ask)
            .map_err(|source| Error::new(Code::Interrupted, "the question was not answered").with_cause(&source))
    }
}
