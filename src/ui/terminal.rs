//! The terminal of this process, as a program elsewhere uses it.

use std::io::{self, IsTerminal};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// While it exists, every key is read at once and unchanged; afterwards the terminal is as it was.
#[derive(Debug)]
pub struct RawTerminal(Termios);

impl RawTerminal {
    /// Takes the terminal that standard input is.
    pub fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Without its terminal there is nothing to put right.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Whether a person reads the output and types the input.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Whether standard output is a terminal, on which lines can be drawn again.
pub fn draws() -> bool {
    io::stdout().is_terminal()
}

/// Rows and columns of the terminal that standard output is.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
