//! The only place that writes to the user: data to stdout, messages to stderr.

mod report;
mod sink;
mod step;
mod timing;

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use indicatif::MultiProgress;
use serde_json::{Value, json};

use crate::error::{Code, Error, Result};

pub use report::render;
pub use sink::Capture;
use sink::Sink;
pub use step::Step;
pub use timing::{Outcome, Timing};

/// How progress and errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: a tree on a terminal, plain lines elsewhere.
    #[default]
    Plain,
    /// One JSON object per line on stdout, the last one being the result or the error.
    Json,
}

/// What decides how [`Ui`] writes.
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

/// Writes to the user; cheap to clone, usable from every task at once.
#[derive(Debug, Clone)]
pub struct Ui(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: UiOptions,
    sink: Sink,
    /// The tree of running steps, only on a terminal.
    tree: Option<MultiProgress>,
    started: Instant,
    timings: Mutex<Vec<Timing>>,
}

impl Ui {
    /// Writes to this process's stdout and stderr.
    pub fn new(options: UiOptions) -> Self {
        let tree = options.terminal && !options.quiet && options.format == Format::Plain;
        Self::with_sink(options, Sink::process(), tree.then(MultiProgress::new))
    }

    /// Writes into memory, for tests; never draws a tree.
    pub fn captured(options: UiOptions) -> (Self, Capture) {
        let (sink, capture) = Sink::captured();
        (Self::with_sink(options, sink, None), capture)
    }

    fn with_sink(options: UiOptions, sink: Sink, tree: Option<MultiProgress>) -> Self {
        Self(Arc::new(Inner { options, sink, tree, started: Instant::now(), timings: Mutex::default() }))
    }

    /// The options it was made with.
    pub fn options(&self) -> UiOptions {
        self.0.options
    }

    /// Writes data to stdout, ending it with a line end. A reader that has gone away is not an error.
    pub fn data(&self, text: &str) -> Result<()> {
        let mut text = text.to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        match self.undisturbed(|| self.0.sink.data(&text)) {
            Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::new(Code::FileFailed, "cannot write to standard output").cause(&source))
            }
            _ => Ok(()),
        }
    }

    /// Reports what was done, or a state.
    pub fn note(&self, text: impl AsRef<str>) {
        self.say("note", "", "", text.as_ref());
    }

    /// Warns of what may cause trouble later.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.say("warning", "warning: ", "33", text.as_ref());
    }

    /// Suggests what to run next.
    pub fn hint(&self, text: impl AsRef<str>) {
        self.say("hint", "hint: ", "36", text.as_ref());
    }

    /// Reports what only `-v` asks for.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.0.options.verbose > 0 {
            self.say("detail", "", "", text.as_ref());
        }
    }

    /// Writes the error with all that is known about it; as the last event with [`Format::Json`].
    pub fn error(&self, error: &Error) {
        if self.0.options.format == Format::Json {
            self.event(&report::event(error));
        } else {
            self.talk(&report::render(error, self.0.options.color));
        }
    }

    /// Ends the events with `{"event":"result",…}`; writes nothing in plain format.
    pub fn result(&self, fields: &Value) {
        if self.0.options.format == Format::Json {
            let mut event = json!({ "event": "result" });
            match (event.as_object_mut(), fields.as_object()) {
                (Some(event), Some(fields)) => {
                    event.extend(fields.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
                _ => event["value"] = fields.clone(),
            }
            self.event(&event);
        }
    }

    /// Starts a step, such as `Starting the control plane`; a step that is dropped unfinished has failed.
    pub fn step(&self, name: impl Into<String>) -> Step {
        Step::start(self.clone(), name.into())
    }

    /// The steps that have ended, in the order of their ends.
    pub fn timings(&self) -> Vec<Timing> {
        self.0.timings.lock().map(|timings| timings.clone()).unwrap_or_default()
    }

    /// Writes the table of `--timings`; an event with [`Format::Json`].
    pub fn print_timings(&self) {
        let (timings, total) = (self.timings(), self.0.started.elapsed());
        if self.0.options.format == Format::Json {
            self.event(&timing::event(&timings, total));
        } else {
            self.talk(&timing::table(&timings, total));
        }
    }

    /// Asks a yes-or-no question; the answer is no where there is no terminal to ask on.
    ///
    /// For `apply` and `upgrade`, which replace nodes: they ask before they do, unless `--yes` is given.
    pub fn confirm(&self, question: &str) -> Result<bool> {
        let options = self.0.options;
        let askable = io::stdin().is_terminal() && options.terminal && options.format == Format::Plain;
        if !askable {
            return Ok(false);
        }
        let ask = || dialoguer::Confirm::new().with_prompt(question).default(false).interact();
        self.undisturbed(ask)
            .map_err(|source| Error::new(Code::Interrupted, "the question was not answered").cause(&source))
    }

    /// Where a program that coracle runs writes its messages: standard output is for data.
    pub fn stream(&self) -> std::process::Stdio {
        io::stderr().into()
    }

    fn say(&self, kind: &str, prefix: &str, color: &str, text: &str) {
        let options = self.0.options;
        if options.quiet {
            return;
        }
        if options.format == Format::Json {
            self.event(&json!({ "event": kind, "message": text }));
        } else {
            self.talk(&format!("{}{text}\n", paint(prefix, color, options.color)));
        }
    }

    fn event(&self, event: &Value) {
        self.0.sink.event(event);
    }

    /// Writes `text` to stderr, above the tree if there is one.
    fn talk(&self, text: &str) {
        self.undisturbed(|| self.0.sink.talk(text));
    }

    /// Runs `write` while no tree is drawn, so that its lines and the tree's do not mix.
    fn undisturbed<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.0.tree {
            Some(tree) => tree.suspend(write),
            None => write(),
        }
    }

    fn record(&self, timing: Timing) {
        if let Ok(mut timings) = self.0.timings.lock() {
            timings.push(timing);
        }
    }
}

/// Wraps `text` in an ANSI colour when `color` says so.
fn paint(text: &str, code: &str, color: bool) -> String {
    if color && !text.is_empty() && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
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

    #[test]
    fn data_goes_to_stdout_and_talk_to_stderr() {
        let (ui, capture) = Ui::captured(UiOptions::default());
        ui.data("a: 1").unwrap();
        ui.note("done");
        ui.warn("careful");
        ui.hint("run it");
        ui.detail("hidden");
        assert_eq!(capture.stdout(), "a: 1\n");
        assert_eq!(capture.stderr(), "done\nwarning: careful\nhint: run it\n");
    }

    #[test]
    fn quiet_leaves_data_and_errors() {
        let (ui, capture) = Ui::captured(UiOptions { quiet: true, ..UiOptions::default() });
        ui.data("x\n").unwrap();
        ui.note("note");
        ui.warn("warn");
        ui.step("Doing").finish();
        ui.error(&Error::new(Code::StepFailed, "it broke"));
        assert_eq!(capture.stdout(), "x\n");
        assert_eq!(capture.stderr(), "error[step-failed]: it broke\n");
    }

    #[test]
    fn json_is_one_object_per_line_on_stdout() {
        let (ui, capture) = Ui::captured(UiOptions { format: Format::Json, ..UiOptions::default() });
        ui.note("a\nb");
        ui.step("Creating nodes").finish();
        ui.error(&Error::new(Code::PortTaken, "port 80 is taken").hint("free it"));
        ui.result(&json!({ "name": "dev" }));
        let text = capture.stdout();
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events[0], json!({ "event": "note", "message": "a\nb" }));
        assert_eq!(events[1], json!({ "event": "step", "name": "Creating nodes", "state": "started" }));
        assert_eq!(events[2]["state"], "finished");
        assert!(events[2]["seconds"].is_number());
        assert_eq!(events[3]["id"], "port-taken");
        assert_eq!(events[3]["exitCode"], 4);
        assert_eq!(events[4], json!({ "event": "result", "name": "dev" }));
        assert_eq!(capture.stderr(), "");
    }

    #[test]
    fn without_a_terminal_the_answer_is_no() {
        assert!(!Ui::captured(UiOptions::default()).0.confirm("sure?").unwrap());
    }
}
