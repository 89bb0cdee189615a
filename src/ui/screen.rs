//! What the user sees: lines on stderr around the tree of running steps, data and events on stdout.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use indicatif::MultiProgress;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::ui::options::{Format, UiOptions};
use crate::ui::sink::Sink;
use crate::ui::timing::Timing;

/// The screen that all messages and steps of a command share.
#[derive(Debug, Clone)]
pub(super) struct Screen(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: UiOptions,
    sink: Sink,
    /// The tree of running steps, only on a terminal.
    tree: Option<MultiProgress>,
    started: Instant,
    timings: Mutex<Vec<Timing>>,
    /// Something was written to stdout as data.
    has_data: AtomicBool,
}

impl Screen {
    pub(super) fn new(options: UiOptions, sink: Sink, tree: Option<MultiProgress>) -> Self {
        Self(Arc::new(Inner {
            options,
            sink,
            tree,
            started: Instant::now(),
            timings: Mutex::default(),
            has_data: AtomicBool::default(),
        }))
    }

    pub(super) fn options(&self) -> UiOptions {
        self.0.options
    }

    pub(super) fn is_json(&self) -> bool {
        self.0.options.format == Format::Json
    }

    pub(super) fn tree(&self) -> Option<&MultiProgress> {
        self.0.tree.as_ref()
    }

    /// When the command started.
    pub(super) fn started(&self) -> Instant {
        self.0.started
    }

    /// Writes to stdout, and returns the error if that fails.
    pub(super) fn data(&self, text: &[u8]) -> io::Result<()> {
        self.0.has_data.fetch_or(!text.is_empty(), Ordering::Relaxed);
        self.undisturbed(|| self.0.sink.data(text))
    }

    /// Whether anything was written to stdout as data.
    pub(super) fn has_data(&self) -> bool {
        self.0.has_data.load(Ordering::Relaxed)
    }

    /// Writes an event with the time, to the millisecond.
    pub(super) fn event(&self, mut event: Value) {
        let now = OffsetDateTime::now_utc();
        let whole = now - Duration::nanoseconds(i64::from(now.nanosecond() % 1_000_000));
        event["time"] = whole.format(&Rfc3339).map_or(Value::Null, Value::from);
        self.0.sink.event(&event);
    }

    /// Writes `text` to stderr, above the tree if there is one.
    pub(super) fn talk(&self, text: &str) {
        self.pass(text.as_bytes());
    }

    /// Writes bytes of a program to stderr.
    pub(super) fn pass(&self, bytes: &[u8]) {
        self.undisturbed(|| self.0.sink.talk(bytes));
    }

    /// Runs `write` while no tree is drawn, so that its lines and the tree's do not mix.
    pub(super) fn undisturbed<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.0.tree {
            Some(tree) => tree.suspend(write),
            None => write(),
        }
    }

    pub(super) fn record(&self, timing: Timing) {
        if let Ok(mut timings) = self.0.timings.lock() {
            timings.push(timing);
        }
    }

    /// The steps that have ended, in the order of their ends.
    pub(super) fn timings(&self) -> Vec<Timing> {
        self.0.timings.lock().map(|timings| timings.clone()).unwrap_or_default()
    }
}

/// Wraps `text` in an ANSI colour if `color` is set.
pub(super) fn paint(text: &str, code: &str, color: bool) -> String {
    if color && !text.is_empty() && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
