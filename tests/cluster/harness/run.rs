//! Commands with an end: whatever hangs is killed and told as a failure.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a command may take unless a scenario says otherwise.
pub const LIMIT: Duration = Duration::from_secs(120);

/// What a command said and how it ended.
pub struct Output {
    pub line: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Standard output, if the command succeeded.
    pub fn ok(self) -> Result<String, String> {
        if self.code == 0 { Ok(self.stdout) } else { Err(self.told()) }
    }

    /// The command, its exit code and what it said.
    pub fn told(&self) -> String {
        let said = format!("{}\n{}", self.stdout.trim(), self.stderr.trim());
        format!("`{}` exited with {}: {}", self.line, self.code, shortened(said.trim()))
    }
}

fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 1500;
    let count = text.chars().count();
    if count <= MAX_CHARS {
        return text.to_owned();
    }
    let tail: String = text.chars().skip(count - MAX_CHARS).collect();
    format!("…{tail}")
}

/// A command with its standard streams in files, so that a grandchild that keeps a pipe cannot keep the test.
pub struct Running {
    child: Child,
    line: String,
    stdout: File,
    stderr: File,
}

/// Starts a command that reads `input`.
pub fn start(mut command: Command, input: Option<File>) -> Result<Running, String> {
    let arguments: Vec<&OsStr> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let line = shortened(&words.join(" "));
    let file = || tempfile::tempfile().map_err(|error| format!("no temporary file: {error}"));
    let (stdout, stderr) = (file()?, file()?);
    let clone = |file: &File| file.try_clone().map(Stdio::from).map_err(|error| error.to_string());
    command.stdin(input.map_or_else(Stdio::null, Stdio::from)).stdout(clone(&stdout)?).stderr(clone(&stderr)?);
    let child = command.spawn().map_err(|error| format!("cannot run `{line}`: {error}"))?;
    Ok(Running { child, line, stdout, stderr })
}

impl Running {
    /// What it has said so far on standard output.
    pub fn said(&self) -> String {
        text(&self.stdout)
    }

    /// Sends it a signal, such as `INT`.
    pub fn signal(&self, name: &str) -> Result<(), String> {
        let mut kill = Command::new("kill");
        kill.args(["-s", name, &self.child.id().to_string()]);
        run(kill, None, LIMIT)?.ok().map(drop)
    }

    /// Waits for its end.
    pub fn finish(mut self, limit: Duration) -> Result<Output, String> {
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if began.elapsed() < limit => std::thread::sleep(Duration::from_millis(10)),
                Ok(None) => {
                    self.kill();
                    let said = format!("{}{}", text(&self.stdout), text(&self.stderr));
                    return Err(format!("`{}` had no end after {limit:?}: {}", self.line, shortened(&said)));
                }
                Err(error) => return Err(format!("`{}` was lost: {error}", self.line)),
            }
        };
        Ok(Output {
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
            code: status.code().unwrap_or(-1),
            line: self.line.clone(),
        })
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All of a file, without moving the position that the child writes at.
fn text(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    while let Ok(count) = file.read_at(&mut chunk, bytes.len() as u64) {
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs a command to its end.
pub fn run(command: Command, input: Option<File>, limit: Duration) -> Result<Output, String> {
    start(command, input)?.finish(limit)
}

/// Runs docker and returns its standard output.
pub fn docker(arguments: &[&str]) -> Result<String, String> {
    docker_output(arguments)?.ok()
}

/// Runs docker to its end, however that is.
pub fn docker_output(arguments: &[&str]) -> Result<Output, String> {
    let mut command = Command::new("docker");
    command.args(arguments);
    run(command, None, LIMIT)
}

/// Shortest and longest pause between two attempts.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Tries until it works, and returns the last failure when the time is over.
///
/// An attempt often starts a program, and what is waited for needs the same processors: the pauses are an eighth of the wait.
pub fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let began = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if began.elapsed() >= limit => return Err(format!("not within {limit:?}: {error}")),
            Err(_) => std::thread::sleep((began.elapsed() / 8).clamp(MIN_PAUSE, MAX_PAUSE)),
        }
    }
}

/// A port of this host that no one has just now.
pub fn free_port() -> Result<u16, String> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| error.to_string())
}

/// A failure with what was expected, unless it holds.
pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Fails unless the text has the part in it.
pub fn contains(text: &str, part: &str) -> Result<(), String> {
    ensure(text.contains(part), || format!("`{part}` is not in: {}", shortened(text)))
}
