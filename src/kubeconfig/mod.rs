//! Adds a cluster's entry to the user's kubeconfig and removes it again.
//!
//! Files are edited, not rewritten: every byte outside coracle's own entries stays. Edits hold kubectl's own
//! lock. kubectl itself can still undo one, because it reads the file before it takes that lock, and removes
//! entries that were added between its read and its write.

mod change;
mod changes;
mod context;
mod document;
mod edit;
mod entries;
mod file;
mod foreign;
mod leading;
mod location;
mod lock;
mod proof;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Code, Error, Problem, Result};

pub use change::settle;
use changes::Changes;
pub use context::{files_with_own, namespace};
use edit::Failure;
pub use entries::{Known, known, open, valid_until};
pub use foreign::{Foreign, foreign};
pub use location::Location;
use lock::Locks;

/// What is needed to access a cluster; the cluster, context and user all have its name.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of the context, cluster and user: `coracle-NAME`.
    pub name: String,
    /// The API server's URL.
    pub server: String,
    /// The certificate authority's certificate, PEM.
    pub ca_pem: String,
    /// The client's certificate, PEM.
    pub client_cert_pem: String,
    /// The client's key, PEM.
    pub client_key_pem: String,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key must not get into a log.
        f.debug_struct("Entry").field("name", &self.name).field("server", &self.server).finish_non_exhaustive()
    }
}

/// Renders a complete kubeconfig with only `entry`.
pub fn render(entry: &Entry) -> Result<String> {
    document::standalone(entry)
}

/// Renders a kubeconfig with `entry` as the current context, which itself is in another file.
pub fn render_beside(entry: &Entry) -> Result<String> {
    document::beside(entry)
}

/// Returns `text` with `entry` merged into it as the current context, if it already is for that cluster.
pub fn refreshed(text: &str, entry: &Entry) -> Option<String> {
    let changes = Changes { lists: [true; 3], current: true };
    text.contains(&document::encoded(&entry.ca_pem)).then(|| document::merged(text, entry, changes).ok())?
}

/// Merges `entry` into the kubeconfig, as the current context if `set_current`, and returns the file with the
/// cluster.
///
/// By kubectl's rules, what already exists is changed in its file, and what is new is added to the first file
/// that exists, else to the last.
pub async fn merge(location: &Location, entry: &Entry, set_current: bool) -> Result<PathBuf> {
    let (location, entry) = (location.clone(), entry.clone());
    in_background(move || merge_now(&location, &entry, set_current)).await
}

/// Merges `entry` into a file that has an entry of its name for the same cluster, by its certificate authority, and nothing
/// else there is changed. Returns whether it has one.
pub async fn correct(file: &Path, entry: &Entry) -> Result<bool> {
    let (location, entry) = (Location::of_file(file), entry.clone());
    let is_it = |known: &entries::Known| known.name == entry.name && known.may_trust(&entry.ca_pem);
    if !entries::known(&location, &entry.name).iter().any(is_it) {
        return Ok(false);
    }
    in_background(move || merge_now(&location, &entry, false)).await.map(|_| true)
}

/// Removes the entry `name` from every file of `location`, and returns whether one had it; one that coracle did not make
/// ([`foreign`]) stays.
///
/// Contexts of other names that lead to its cluster go too. A current context that is removed is unset. Files without
/// the entry are not changed.
pub async fn remove(location: &Location, name: &str) -> Result<bool> {
    let (location, name) = (location.clone(), name.to_owned());
    in_background(move || remove_now(&location, &name, None)).await
}

/// Removes the entry `name` from a file, if its cluster there has this certificate authority (PEM): the file may have
/// got a cluster of the same name from elsewhere.
pub async fn remove_from(file: &Path, name: &str, authority: &str) -> Result<bool> {
    let (location, name, authority) = (Location::of_file(file), name.to_owned(), authority.to_owned());
    in_background(move || remove_now(&location, &name, Some(&authority))).await
}

/// Checks that [`merge`] can work for an entry of this name: that the files can be understood, changed, written and locked,
/// and that none of them has such an entry of someone else.
pub fn preflight(location: &Location, name: &str) -> Result<()> {
    preflight_within(location, lock::LOCK_TIMEOUT)?;
    match foreign(location, name) {
        Some(Foreign { file, sign }) => Err(foreign::refused(&file, name, &sign)),
        None => Ok(()),
    }
}

/// The lock that other programs hold of one of the files, and for how long.
pub fn held_lock(location: &Location) -> Option<(PathBuf, Duration)> {
    lock::held(location.files())
}

/// The same as [`preflight`], with another patience for locks.
pub fn preflight_within(location: &Location, patience: Duration) -> Result<()> {
    let default = location.default_file();
    file::check_writable(default)?;
    if file::is_stream(default) {
        return Ok(());
    }
    let _locks = Locks::take_within(location.files(), patience)?;
    let files = load(location)?;
    let entry = Entry {
        name: "coracle-preflight".to_owned(),
        server: String::new(),
        ca_pem: String::new(),
        client_cert_pem: String::new(),
        client_key_pem: String::new(),
    };
    if let Some((path, text)) = files.iter().find(|(path, _)| path == default) {
        let changes = Changes { lists: [true; 3], current: true };
        document::merged(text, &entry, changes).map_err(|failure| explain(path, text, failure))?;
    }
    Ok(())
}

/// Runs `work` outside the async threads; it completes even if the waiting task is dropped, and so never leaves a lock.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| Error::new(Code::StepFailed, "changing the kubeconfig was interrupted").with_cause(&source))?
}

fn merge_now(location: &Location, entry: &Entry, set_current: bool) -> Result<PathBuf> {
    let default = location.default_file().to_owned();
    if file::is_stream(&default) {
        file::overwrite(&default, &render(entry)?).map_err(|source| file::failure("write", &default, &source))?;
        return Ok(default);
    }
    file::create_directory_of(&default, location.owner())?;
    let _locks = Locks::take(location.files())?;
    // Again, because another program may have created a file in the meantime.
    let default = location.default_file().to_owned();
    let mut files = load(location)?;
    if !files.iter().any(|(path, _)| *path == default) {
        files.push((default.clone(), String::new()));
    }
    for (path, text) in &files {
        if let Some(sign) = foreign::sign(text, &entry.name).map_err(|flaw| explain(path, text, flaw.into()))? {
            return Err(foreign::refused(path, &entry.name, &sign));
        }
    }
    let mut changes = vec![Changes::default(); files.len()];
    let default_at = files.iter().position(|(path, _)| *path == default).unwrap_or_default();
    let found = files
        .iter()
        .map(|(path, text)| document::lists_with(text, &entry.name).map_err(|flaw| explain(path, text, flaw.into())))
        .collect::<Result<Vec<_>>>()?;
    for list in 0..changes::LISTS.len() {
        let at = found.iter().position(|lists| lists[list]).unwrap_or(default_at);
        changes[at].lists[list] = true;
    }
    changes[default_at].current = set_current;
    let mut written = Vec::new();
    for ((path, text), changes) in files.iter().zip(&changes).filter(|(_, changes)| changes.any()) {
        let new = document::merged(text, entry, *changes).map_err(|failure| explain(path, text, failure))?;
        if new != *text {
            written.push((path, new));
        }
    }
    for (path, text) in written {
        file::write(path, &text, location.owner())?;
    }
    let cluster_at = changes.iter().position(|changes| changes.lists[0]).unwrap_or(default_at);
    Ok(files.swap_remove(cluster_at).0)
}

fn remove_now(location: &Location, name: &str, authority: Option<&str>) -> Result<bool> {
    let existing: Vec<PathBuf> =
        location.files().iter().filter(|path| path.exists() && !file::is_stream(path)).cloned().collect();
    let _locks = Locks::take(&existing)?;
    let mut written = Vec::new();
    for path in &existing {
        let text = match file::read(path) {
            Ok(Some(text)) => text,
            // coracle never writes to a file that is not UTF-8.
            Err(error) if error.code() == Code::KubeconfigInvalid => continue,
            Err(error) => return Err(error),
            Ok(None) => continue,
        };
        // A file without the name need not be understood.
        if !text.contains(name) || !is_of(path, &text, name, authority)? {
            continue;
        }
        if foreign::sign(&text, name).map_err(|flaw| explain(path, &text, flaw.into()))?.is_some() {
            continue;
        }
        if let Some(new) = document::removed(&text, name).map_err(|failure| explain(path, &text, failure))? {
            written.push((path, new));
        }
    }
    for (path, text) in &written {
        file::write(path, text, location.owner())?;
    }
    Ok(!written.is_empty())
}

/// Whether the cluster `name` in a text has this certificate authority; any does if none is wanted.
fn is_of(path: &Path, text: &str, name: &str, authority: Option<&str>) -> Result<bool> {
    let Some(wanted) = authority else { return Ok(true) };
    let found =
        leading::authority(document::split_mark(text).1, name).map_err(|flaw| explain(path, text, flaw.into()))?;
    Ok(found.is_some_and(|found| found == document::encoded(wanted)))
}

/// Reads the files that exist, in kubectl's order; fails if one cannot be understood.
fn load(location: &Location) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for path in location.files() {
        if let Some(text) = file::read(path)? {
            document::lists_with(&text, "").map_err(|flaw| explain(path, &text, flaw.into()))?;
            files.push((path.clone(), text));
        }
    }
    Ok(files)
}

/// The error for a text that cannot be understood or changed, with its line and column.
fn explain(path: &Path, text: &str, failure: Failure) -> Error {
    let flaw = match failure {
        Failure::Text(flaw) => flaw,
        Failure::Other(error) => return error,
    };
    let (_, body) = document::split_mark(text);
    let before = body.get(..flaw.at).unwrap_or(body);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    // Without a snippet, because the line may contain a key or a token.
    Error::new(Code::KubeconfigInvalid, format!("cannot understand kubeconfig `{}`", path.display()))
        .with_problems(vec![Problem {
            place: format!("{}:{line}:{column}", path.display()),
            message: flaw.message,
            snippet: None,
        }])
        .hint(format!("fix line {line}, or use another file with `--kubeconfig FILE`; nothing was changed"))
}
