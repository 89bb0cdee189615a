//! The only place that writes to the user: data to stdout, messages to stderr.

mod ask;
mod options;
mod report;
mod screen;
mod sink;
mod step;
pub mod terminal;
mod timing;

use std::io;

use indicatif::MultiProgress;
use serde_json::{Value, json};

use crate::error::{Code, Error, Result};

pub use options::{Format, UiOptions};
pub use report::render;
use screen::{Screen, paint};
pub use sink::Capture;
use sink::Sink;
pub use step::Step;
pub use timing::{Outcome, Timing};

/// Writes to the user; cheap to clone, usable from every task at once.
#[derive(Debug, Clone)]
pub struct Ui(Screen);

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
        Self(Screen::new(options, sink, tree))
    }

    /// The options it was made with.
    pub fn options(&self) -> UiOptions {
        self.0.options()
    }

    /// Writes data to stdout, ending it with a line end. A reader that has gone away is not an error.
    pub fn data(&self, text: &str) -> Result<()> {
        let mut text = text.to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        self.bytes(text.as_bytes()).map(drop)
    }

    /// Writes bytes to stdout as they are. The value is whether anyone still reads them.
    pub fn bytes(&self, bytes: &[u8]) -> Result<bool> {
        match self.0.data(bytes) {
            Ok(()) => Ok(true),
            Err(source) if source.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(source) => Err(Error::new(Code::FileFailed, "cannot write to standard output").with_cause(&source)),
        }
    }

    /// Writes bytes of a program to stderr as they are.
    pub fn error_bytes(&self, bytes: &[u8]) {
        self.0.pass(bytes);
    }

    /// Reports what was done, or a state.
    pub fn note(&self, text: impl AsRef<str>) {
        self.say("note", "", "", text.as_ref());
    }

    /// Warns of what may cause trouble later.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.say("warning", "warning: ", "33", text.as_ref());
    }

    /// Warns of a failure that stops nothing.
    pub fn warn_of(&self, result: Result<()>) {
        if let Err(error) = result {
            self.warn(error.to_string());
        }
    }

    /// Suggests what to run next.
    pub fn hint(&self, text: impl AsRef<str>) {
        self.say("hint", "hint: ", "36", text.as_ref());
    }

    /// Reports what only `-v` asks for.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.0.options().verbose > 0 {
            self.say("detail", "", "", text.as_ref());
        }
    }

    /// Writes the error with all that is known about it; also as the last event with [`Format::Json`].
    pub fn error(&self, error: &Error) {
        self.error_event(error);
        self.0.talk(&report::render(error, self.0.options().color));
    }

    /// Writes the error of a command that prints JSON: also as an event, unless it has printed something already.
    pub fn error_as_data(&self, error: &Error) {
        if !self.0.has_data() {
            self.0.event(report::event(error));
        }
        self.0.talk(&report::render(error, self.0.options().color));
    }

    /// Writes the error as an event only, where its text has already been written.
    pub fn error_event(&self, error: &Error) {
        if self.0.is_json() {
            self.0.event(report::event(error));
        }
    }

    /// Ends the events with `{"event":"result",…}`; writes nothing in plain format.
    pub fn result(&self, fields: &Value) {
        if self.0.is_json() {
            let mut event = json!({ "event": "result" });
            match (event.as_object_mut(), fields.as_object()) {
                (Some(event), Some(fields)) => {
                    event.extend(fields.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
                _ => event["value"] = fields.clone(),
            }
            self.0.event(event);
        }
    }

    /// Starts a step, such as `Starting the control plane`; a step that is dropped unfinished has failed.
    pub fn step(&self, name: impl Into<String>) -> Step {
        Step::start(self.0.clone(), name.into())
    }

    /// The steps that have ended, in the order of their ends.
    pub fn timings(&self) -> Vec<Timing> {
        self.0.timings()
    }

    /// Writes the table of `--timings`; also as an event with [`Format::Json`].
    pub fn print_timings(&self) {
        let (timings, total) = (self.timings(), self.0.started().elapsed());
        if self.0.is_json() {
            self.0.event(timing::event(&timings, total));
        }
        self.0.talk(&timing::table(&timings, total));
    }

    /// Where a program that coracle runs writes its messages: standard output is for data.
    pub fn stream(&self) -> std::process::Stdio {
        io::stderr().into()
    }

    fn say(&self, kind: &str, prefix: &str, color: &str, text: &str) {
        let options = self.0.options();
        if options.quiet {
            return;
        }
        if options.format == Format::Json {
            self.0.event(json!({ "event": kind, "message": text }));
        }
        self.0.talk(&format!("{}{text}\n", paint(prefix, color, options.color)));
    }
}

#[cfg(test)]
mod tests {
    use time::format_description::well_known::Rfc3339;

    use super::*;

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
    fn an_error_is_data_where_there_is_no_other() {
        let error = Error::new(Code::NotFound, "there is none");
        for (data, events) in [("", 1), ("{}", 0)] {
            let (ui, capture) = Ui::captured(UiOptions::default());
            ui.data(data).unwrap();
            ui.error_as_data(&error);
            assert_eq!(capture.stdout().matches(r#""event":"error""#).count(), events, "{}", capture.stdout());
            assert_eq!(capture.stderr(), "error[not-found]: there is none\n");
        }
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
    fn json_is_one_object_per_line_on_stdout_and_people_read_stderr() {
        let (ui, capture) = Ui::captured(UiOptions { format: Format::Json, ..UiOptions::default() });
        ui.note("a\nb");
        ui.step("Creating nodes").finish();
        ui.error(&Error::new(Code::PortTaken, "port 80 is taken").hint("free it"));
        ui.result(&json!({ "name": "dev" }));
        let text = capture.stdout();
        let mut events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for event in &mut events {
            let time = event.as_object_mut().unwrap().remove("time").unwrap();
            assert!(time::OffsetDateTime::parse(time.as_str().unwrap(), &Rfc3339).is_ok(), "{time}");
            assert!(time.as_str().unwrap().len() <= "2026-11-28T08:00:00.123Z".len(), "{time}");
        }
        assert_eq!(events[0], json!({ "event": "note", "message": "a\nb" }));
        assert_eq!(events[1], json!({ "event": "step", "name": "Creating nodes", "state": "started" }));
        assert_eq!(events[2]["state"], "finished");
        assert!(events[2]["seconds"].is_number());
        assert_eq!(events[3]["id"], "port-taken");
        assert_eq!(events[3]["exitCode"], 4);
        assert_eq!(events[4], json!({ "event": "result", "name": "dev" }));
        let said = capture.stderr();
        assert!(said.starts_with("a\nb\n- Creating nodes\nok Creating nodes ("), "{said}");
        assert!(said.ends_with("error[port-taken]: port 80 is taken\n  hint: free it\n"), "{said}");
    }

    #[test]
    fn without_a_terminal_the_answer_is_no() {
        assert!(!Ui::captured(UiOptions::default()).0.confirm("sure?").unwrap());
    }
}
