//! The configuration of the Docker client: `config.json` with its logins, credential helpers and proxies.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};

/// The parts of the file that coracle uses.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DockerConfig {
    auths: Map<String, Value>,
    creds_store: Option<String>,
    cred_helpers: Map<String, Value>,
    proxies: Value,
}

impl DockerConfig {
    /// Reads the file; without one nothing is configured.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let failed = |cause: String| {
            Error::new(Code::FileFailed, format!("cannot read the Docker configuration `{}`", file.display()))
                .because(cause)
        };
        match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text)
                // The parser's own words could repeat what is in the file.
                .map_err(|source| failed(format!("it is not valid JSON, at line {}", source.line()))),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(failed(source.to_string())),
        }
    }

    /// The credential helpers to ask about a registry: its own, then the one for all.
    pub(super) fn helpers(&self, host: &str) -> impl Iterator<Item = &str> {
        let of_host =
            self.cred_helpers.iter().find(|(entry, _)| is_for(entry, host)).and_then(|(_, name)| name.as_str());
        of_host.into_iter().chain(self.creds_store.as_deref())
    }

    /// What `docker login` stored in the file itself.
    pub(super) fn login(&self, host: &str) -> Option<&Value> {
        self.auths.iter().find(|(entry, _)| is_for(entry, host)).map(|(_, value)| value)
    }

    /// The proxies for containers of the first of the engines that has an entry.
    pub(super) fn proxies(&self, engines: &[&str]) -> Option<&Value> {
        let proxies = self.proxies.as_object()?;
        engines.iter().find_map(|engine| proxies.get(*engine))
    }
}

/// The host and port of a URL, or of what `docker login` stores for one.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Whether an entry of the configuration is for this host.
fn is_for(entry: &str, host: &str) -> bool {
    let entry = authority(entry);
    entry == host || (host == "docker.io" && matches!(entry, "index.docker.io" | "registry-1.docker.io"))
}
