//! Files from the internet: curl fetches them, with the proxies and certificates that the user has set for it.

use std::io;
use std::path::Path;
use std::time::Duration;

use sha2::{Sha256, Sha512};
use tokio::process::Command;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::error::{Code, Error, Result};
use crate::node_image::cache::hash_of;
use crate::node_image::tool;

/// How often a file is asked for, if the connection breaks or the server is busy.
const ATTEMPTS: u32 = 5;
/// The pause before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How often progress is reported.
const REPORT: Duration = Duration::from_secs(1);
const MEGABYTE: u64 = 1_000_000;

/// A file to fetch.
pub(super) struct Download<'a> {
    pub(super) url: &'a str,
    /// Where it is written.
    pub(super) path: &'a Path,
    /// The most bytes that it may have.
    pub(super) limit: Option<u64>,
    /// Hears how much is there, as text that continues a sentence.
    pub(super) say: &'a (dyn Fn(&str) + Send + Sync),
}

/// Fetches a file; `false` if the server does not have it. After a break it goes on where it was.
pub(super) async fn fetch(download: &Download<'_>) -> Result<bool> {
    tool::require(&["curl"])?;
    let _ = std::fs::remove_file(download.path);
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let failed = match attempt_once(download).await? {
            Answer::Whole => return Ok(true),
            Answer::Absent => return Ok(false),
            Answer::Refused(error) => return Err(error),
            Answer::Broken(error) => error,
        };
        if attempt == ATTEMPTS {
            return Err(failed);
        }
        sleep(pause).await;
        pause *= 2;
    }
    Ok(false)
}

/// How one attempt went.
enum Answer {
    Whole,
    Absent,
    /// Another attempt would end in the same way.
    Refused(Error),
    /// Another attempt may go further.
    Broken(Error),
}

async fn attempt_once(download: &Download<'_>) -> Result<Answer> {
    let Download { url, path, limit, say } = download;
    let mut command = Command::new("curl");
    // The file may begin with what an attempt before has left.
    command.args(["--fail", "--silent", "--show-error", "--location", "--continue-at", "-"]);
    command.args(["--connect-timeout", "5", "--speed-limit", "1000", "--speed-time", "30", "--max-redirs", "10"]);
    if url.starts_with("https://") {
        command.args(["--proto", "=https"]);
    }
    if let Some(limit) = limit {
        command.args(["--max-filesize", &limit.to_string()]);
    }
    command.args(["--write-out", "%{http_code}", "--output"]).arg(path).arg("--").arg(url).kill_on_drop(true);
    let mut timer = interval_at(Instant::now() + REPORT, REPORT);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fetching = Box::pin(ended(command));
    let (code, status, said) = loop {
        tokio::select! {
            ended = &mut fetching => break ended?,
            _ = timer.tick() => {
                let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
                say(&format!(", {} MB", size / MEGABYTE));
            }
        }
    };
    Ok(judge(download, code, status, &said))
}

/// What curl ended with: its exit code, the HTTP status, and what it said.
async fn ended(mut command: Command) -> Result<(i32, u32, String)> {
    let output = command
        .output()
        .await
        .map_err(|source| Error::new(Code::BuildFailed, "cannot run `curl`").with_cause(&source))?;
    let status = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok((output.status.code().unwrap_or(-1), status, said))
}

fn judge(download: &Download<'_>, code: i32, status: u32, said: &str) -> Answer {
    let said = said.strip_prefix("curl: ").unwrap_or(said);
    let cause = said.split_once(") ").map_or(said, |(_, cause)| cause);
    let error = || Error::new(Code::BuildFailed, format!("cannot download {}", download.url)).because(cause);
    match (code, status) {
        // With 416, all of it was there already: there is no range after it.
        (0, _) | (22, 416) => Answer::Whole,
        (22, 404 | 410) => Answer::Absent,
        // A busy server; a part of the file, no answer, HTTP/2's own errors; a server that became silent.
        (22, 408 | 429 | 500..) | (18 | 52 | 92 | 95, _) | (28, 1..) => Answer::Broken(error()),
        (56, _) if !cause.contains("CONNECT") => Answer::Broken(error()),
        // A server without ranges: from the beginning again.
        (33, _) => {
            let _ = std::fs::remove_file(download.path);
            Answer::Broken(error())
        }
        // No address, no connection, no trust, a proxy that refuses: the same in half a second.
        _ => Answer::Refused(error()),
    }
}

/// The hash of a file in what `sha512sum` or `sha256sum` prints, also inside a signed message. One that stands alone is of
/// the only file.
pub(super) fn hash_in(text: &str, file: &str) -> Option<String> {
    let is_hash = |word: &str| matches!(word.len(), 64 | 128) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.first().is_some_and(|word| is_hash(word)))
        .collect();
    let named = |words: &&Vec<&str>| {
        words.get(1).is_some_and(|name| name.trim_start_matches('*').rsplit('/').next() == Some(file))
    };
    let found = match lines.as_slice() {
        [words] if words.len() == 1 => Some(words),
        lines => lines.iter().find(named),
    };
    found.map(|words| words[0].to_ascii_lowercase())
}

/// Fails if a file is not what its project has published.
pub(super) fn require_hash(path: &Path, wanted: &str, url: &str) -> Result<()> {
    let hashed = if wanted.len() == 64 { hash_of::<Sha256>(path) } else { hash_of::<Sha512>(path) };
    let found = hashed.map_err(|source| unreadable(path, &source))?;
    if found == wanted {
        return Ok(());
    }
    Err(Error::new(Code::BuildFailed, format!("{url} is not what its project has published"))
        .because(format!("its hash is {found} instead of {wanted}"))
        .hint("try again; if it stays so, something between this machine and the server changes files"))
}

pub(super) fn unreadable(path: &Path, source: &io::Error) -> Error {
    Error::new(Code::FileFailed, format!("cannot read `{}`", path.display())).with_cause(source)
}
