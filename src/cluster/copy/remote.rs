//! The end of a copy that is in a container: by tar in one that runs, which has file systems in memory that the engine does not
//! see, and files that grow; by the engine's archives in one that does not.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt};

use crate::cluster::copy::place::{Kind, parts};
use crate::cluster::target::Target;
use crate::engine::files::run;
use crate::engine::inside::SessionSpec;
use crate::engine::{ByteStream, Conversation, Engine, Said};
use crate::error::{Code, Error, Result};

/// Prints what the path `$1` is, and where it leads.
const LOOK: &str = "if [ -d \"$1\" ]; then echo directory; elif [ -e \"$1\" ]; then echo file; else exit 0; fi
realpath -- \"$1\"";
/// Directories of a node that are in memory, and empty while it does not run.
const IN_MEMORY: [&str; 2] = ["/run", "/tmp"];
/// Links that are followed in a container that does not run.
const MAX_LINKS: usize = 16;

/// A container.
pub(super) struct Remote<'a> {
    engine: &'a dyn Engine,
    target: &'a Target,
}

/// A path that exists in a container, without links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) kind: Kind,
}

/// An archive that comes from a container.
pub struct Archive {
    pub stream: ByteStream,
    pub rest: Rest,
}

/// What is known of an archive when its end has come.
pub struct Rest {
    session: Option<String>,
    said: Arc<Mutex<Vec<u8>>>,
    node: String,
}

impl Rest {
    /// Whether all of it came.
    pub async fn check(self, engine: &dyn Engine) -> Result<()> {
        let Some(session) = &self.session else { return Ok(()) };
        // 1 is for files that changed meanwhile, such as logs.
        let code = engine.exit_code(session).await?;
        if code == 0 || code == 1 {
            return Ok(());
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said);
        let cause = said.lines().next().map_or_else(|| format!("tar ended with {code}"), |line| line.trim().to_owned());
        Err(Error::new(Code::StepFailed, "not all files could be read").on_node(&self.node).because(cause))
    }
}

impl<'a> Remote<'a> {
    pub(super) fn new(engine: &'a dyn Engine, target: &'a Target) -> Self {
        Self { engine, target }
    }

    fn node(&self) -> &'a str {
        &self.target.container.name
    }

    /// What a path is and where it leads, if it exists.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Found>> {
        if !self.target.container.is_running() {
            return self.find_by_engine(path).await;
        }
        let failed = Error::new(Code::StepFailed, format!("cannot look at `{path}`")).on_node(self.node());
        let said = run(self.engine, self.node(), &["sh", "-c", LOOK, "sh", path], None, failed).await?;
        let said = String::from_utf8_lossy(&said);
        let Some((kind, path)) = said.split_once('\n') else { return Ok(None) };
        let kind = if kind == "directory" { Kind::Directory } else { Kind::File };
        Ok(Some(Found { path: path.trim_end_matches('\n').to_owned(), kind }))
    }

    async fn find_by_engine(&self, path: &str) -> Result<Option<Found>> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let is_in = |directory: &&str| path == *directory || path.starts_with(&format!("{directory}/"));
            if let Some(directory) = IN_MEMORY.into_iter().find(is_in).filter(|_| self.target.is_node) {
                let why = format!("`{directory}` is in its memory, and can be reached only while it runs");
                return self.target.require_running().map(|()| None).map_err(|error| error.because(why));
            }
            let Some(info) = self.engine.find_path(self.node(), &path).await? else { return Ok(None) };
            match info.link {
                Some(link) if link.starts_with('/') => path = link,
                Some(link) => path = format!("{}/{link}", parts(&path).0.trim_end_matches('/')),
                None => {
                    let kind = if info.is_directory { Kind::Directory } else { Kind::File };
                    return Ok(Some(Found { path, kind }));
                }
            }
        }
        Err(Error::new(Code::StepFailed, format!("`{path}` is a link that leads in a circle")).on_node(self.node()))
    }

    /// The same; an error if it does not exist.
    pub(super) async fn require(&self, path: &str) -> Result<Found> {
        let missing = || Error::new(Code::NotFound, format!("there is no `{path}`")).on_node(self.node());
        self.find(path).await?.ok_or_else(missing)
    }

    /// A directory, without links.
    pub(super) async fn require_directory(&self, path: &str) -> Result<String> {
        let found = self.find(path).await?.filter(|found| found.kind == Kind::Directory);
        let missing = || {
            let hint = format!("`coracle shell {} -- mkdir --parents {path}` creates it", self.node());
            let error = Error::new(Code::NotFound, format!("there is no directory `{path}`")).on_node(self.node());
            if self.target.container.is_running() { error.hint(hint) } else { error }
        };
        found.map(|found| found.path).ok_or_else(missing)
    }

    /// A path as an archive.
    pub(super) async fn read(&self, found: &Found) -> Result<Archive> {
        let said: Arc<Mutex<Vec<u8>>> = Arc::default();
        let rest = |session| Rest { session, said: Arc::clone(&said), node: self.node().to_owned() };
        if !self.target.container.is_running() {
            let missing = || Error::new(Code::NotFound, format!("there is no `{}`", found.path)).on_node(self.node());
            let stream = self.engine.download(self.node(), &found.path).await?.ok_or_else(missing)?;
            return Ok(Archive { stream, rest: rest(None) });
        }
        let (directory, name) = parts(&found.path);
        let name = if name.is_empty() { "." } else { name.as_str() };
        let command = ["tar", "--create", "--file=-", "--directory", &directory, "--", name];
        let command = command.map(str::to_owned).to_vec();
        let session = self.engine.open(self.node(), &SessionSpec { command, ..SessionSpec::default() }).await?;
        let rest = rest(Some(session.id));
        let Conversation { input, output } = session.ends;
        let output = output.try_filter_map(move |part| {
            // As long as the output is wanted, the connection stays whole.
            let _whole = &input;
            let bytes = match part {
                Said::Output(bytes) => Some(bytes),
                Said::Error(bytes) => {
                    said.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes);
                    None
                }
            };
            std::future::ready(Ok(bytes))
        });
        Ok(Archive { stream: output.boxed(), rest })
    }

    /// Unpacks an archive in a directory.
    pub(super) async fn write(&self, directory: &str, archive: ByteStream) -> Result<()> {
        if !self.target.container.is_running() {
            return self.engine.unpack(self.node(), directory, archive).await;
        }
        let failed = Error::new(Code::StepFailed, format!("cannot write into `{directory}`")).on_node(self.node());
        let command = ["tar", "--extract", "--file=-", "--no-overwrite-dir", "--directory", directory];
        run(self.engine, self.node(), &command, Some(archive), failed).await.map(drop)
    }
}
