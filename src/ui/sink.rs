//! Where text goes: this process's stdout and stderr, or memory in tests.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// The two streams, each written in whole pieces.
pub(super) struct Sink {
    stdout: Mutex<Box<dyn Write + Send>>,
    stderr: Mutex<Box<dyn Write + Send>>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

impl Sink {
    pub(super) fn process() -> Self {
        Self { stdout: Mutex::new(Box::new(io::stdout())), stderr: Mutex::new(Box::new(io::stderr())) }
    }

    pub(super) fn captured() -> (Self, Capture) {
        let capture = Capture::default();
        let sink = Self {
            stdout: Mutex::new(Box::new(capture.stdout.clone())),
            stderr: Mutex::new(Box::new(capture.stderr.clone())),
        };
        (sink, capture)
    }

    /// Writes to stdout, and returns the error if that fails.
    pub(super) fn data(&self, text: &[u8]) -> io::Result<()> {
        write(&self.stdout, text)
    }

    /// Writes one JSON event as one line on stdout.
    pub(super) fn event(&self, event: &Value) {
        // The command continues when the reader of its events has gone away: there is no one left to tell.
        let _ = write(&self.stdout, format!("{event}\n").as_bytes());
    }

    /// Writes to stderr.
    pub(super) fn talk(&self, text: &[u8]) {
        // As above: without a stderr there is no one to tell.
        let _ = write(&self.stderr, text);
    }
}

fn write(stream: &Mutex<Box<dyn Write + Send>>, text: &[u8]) -> io::Result<()> {
    let mut stream = stream.lock().map_err(|_| io::Error::other("a writer panicked"))?;
    stream.write_all(text)?;
    stream.flush()
}

/// What a captured [`Ui`](crate::ui::Ui) has written, for tests.
#[derive(Debug, Clone, Default)]
pub struct Capture {
    stdout: Buffer,
    stderr: Buffer,
}

impl Capture {
    /// Everything written to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Everything written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }
}

#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        self.0.lock().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::Error::other("a writer panicked"))?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
