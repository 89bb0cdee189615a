//! `coracle shell`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::TryStreamExt;
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::input;
use crate::cli::options::OneNode;
use crate::engine::inside::{Session, SessionSpec, TerminalSize};
use crate::engine::{Conversation, Engine, Said};
use crate::error::{Code, Error, Result};
use crate::ui::Ui;
use crate::ui::terminal::{self, RawTerminal};

/// What runs without a command.
const SHELL: [&str; 2] = ["bash", "--login"];
/// Where it runs: as after a login.
const HOME: &str = "/root";
/// Variables of this host that say what the terminal can do.
const TERMINAL: [&str; 2] = ["TERM", "COLORTERM"];
/// How often the size of a terminal is told to a session that the engine is just starting, and the pause between.
const RESIZE_ATTEMPTS: u32 = 20;
const RESIZE_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  coracle shell dev-worker                             a shell in the node
  coracle shell dev-worker -- crictl ps                one command, with its exit code
  coracle shell dev-worker -- tee /etc/motd <motd      a command that reads standard input")]
pub(crate) struct Shell {
    #[command(flatten)]
    node: OneNode,
    /// Command to run instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run for Shell {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let target = self.node.find(&*engine).await?;
        target.require_running()?;
        let is_interactive = terminal::is_interactive();
        let spec = spec(self.command, is_interactive.then(size));
        let session = engine.open(&target.container.name, &spec).await?;
        let id = session.id.clone();
        let raw = if spec.terminal.is_some() { Some(take_terminal()?) } else { None };
        let held = hold(&*engine, session, spec.terminal.is_some(), &context.ui).await;
        // Before anything else is written.
        drop(raw);
        let is_whole = held.map_err(|source| {
            let failed =
                Error::new(Code::EngineFailed, "the session ended unexpectedly").on_node(&target.container.name);
            failed.with_cause(&source)
        })?;
        if !is_whole {
            // The engine has no exit code of a command that no one listens to any more; `| head` is no failure.
            return Ok(ExitCode::SUCCESS);
        }
        let code = engine.exit_code(&id).await?;
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }

    fn sweeps(&self) -> bool {
        false
    }
}

/// The shell or the command; with a terminal of this size, if there is one.
fn spec(command: Vec<String>, terminal: Option<TerminalSize>) -> SessionSpec {
    let command = if command.is_empty() { SHELL.map(str::to_owned).to_vec() } else { command };
    let variable = |name: &&str| Some(format!("{name}={}", std::env::var(name).ok()?));
    let of_terminal = TERMINAL.iter().filter(|_| terminal.is_some()).filter_map(variable);
    SessionSpec {
        command,
        environment: of_terminal.chain([format!("HOME={HOME}")]).collect(),
        directory: Some(HOME.to_owned()),
        terminal,
        input: true,
    }
}

/// The size of this terminal; the usual one, if it does not say.
fn size() -> TerminalSize {
    let (rows, columns) = terminal::size().unwrap_or((24, 80));
    TerminalSize { rows, columns }
}

fn take_terminal() -> Result<RawTerminal> {
    RawTerminal::new()
        .map_err(|source| Error::new(Code::FileFailed, "cannot switch this terminal to raw mode").with_cause(&source))
}

/// Passes what is typed to the session and what it says to the user, until it ends; `false` if no one reads it any more.
async fn hold(engine: &dyn Engine, session: Session, has_terminal: bool, ui: &Ui) -> std::io::Result<bool> {
    let Conversation { input, mut output } = session.ends;
    let show = async {
        while let Some(part) = output.try_next().await? {
            match part {
                // The end of the connection is what the command notices.
                Said::Output(bytes) if !ui.bytes(&bytes).map_err(std::io::Error::other)? => return Ok(false),
                Said::Output(_) => {}
                Said::Error(bytes) => ui.error_bytes(&bytes),
            }
        }
        Ok::<_, std::io::Error>(true)
    };
    let send = async {
        feed(input, input::pieces()).await;
        std::future::pending::<()>().await;
    };
    let resize = async {
        if has_terminal {
            follow_size(engine, &session.id).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        shown = show => shown,
        () = send => Ok(true),
        () = resize => Ok(true),
    }
}

/// Passes an input on to its end. A command that ends before has closed its own end, and its exit code says why.
async fn feed(mut input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>, mut pieces: mpsc::Receiver<Vec<u8>>) {
    while let Some(piece) = pieces.recv().await {
        if input.write_all(&piece).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
    let _ = input.shutdown().await;
    // The connection lives on for the output.
    std::future::pending::<()>().await;
}

/// Tells the session the size of the terminal, now and whenever it changes.
async fn follow_size(engine: &dyn Engine, session: &str) {
    let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
    loop {
        for _ in 0..RESIZE_ATTEMPTS {
            if engine.resize(session, size()).await.is_ok() {
                break;
            }
            tokio::time::sleep(RESIZE_PAUSE).await;
        }
        if changed.recv().await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_command_it_is_a_login_shell() {
        let shell = spec(Vec::new(), None);
        assert_eq!((shell.command, shell.directory.as_deref()), (SHELL.map(str::to_owned).to_vec(), Some("/root")));
        assert_eq!(shell.environment, ["HOME=/root"]);
        let command = spec(vec!["crictl".to_owned(), "ps".to_owned()], None);
        assert_eq!(command.command, ["crictl", "ps"]);
    }
}
