//! The configuration of the Docker client: `config.json` with its logins, credential helpers and proxies.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};
use crate::host::check::{Check, each, odd};
use crate::host::checks::Id;

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

/// Why the configuration in a directory cannot be used, if there is one: its logins, proxies and context are missing then.
pub fn damage(directory: Option<&Path>) -> Option<Error> {
    let file = directory?.join("config.json");
    let hint = format!("correct `{}`, or move it away", file.display());
    DockerConfig::read(&file).err().map(|error| error.hint(hint))
}

/// Checks the configuration in a directory; `path` is where programs are looked for (`PATH`).
pub fn checks(directory: Option<&Path>, path: &OsStr) -> Vec<Check> {
    let Some(file) = directory.map(|directory| directory.join("config.json")) else { return Vec::new() };
    let Ok(config) = DockerConfig::read(&file) else {
        return vec![Check::unless(Id::DockerConfig, damage(directory))];
    };
    let helpers = config.cred_helpers.values().filter_map(Value::as_str).chain(config.creds_store.as_deref());
    let helpers: BTreeSet<String> =
        helpers.filter(|name| !name.is_empty()).map(|name| format!("docker-credential-{name}")).collect();
    let is_here = |program: &str| std::env::split_paths(path).any(|directory| directory.join(program).is_file());
    let missing = helpers.iter().filter(|program| !is_here(program)).map(|program| {
        odd(
            format!("the credential helper `{program}` is not installed"),
            format!("install it, or remove it from `{}` (`credsStore`, `credHelpers`)", file.display()),
        )
    });
    let mut checks = vec![Check::new(Id::DockerConfig, Ok(()))];
    checks.extend(each(Id::CredentialHelper, missing));
    checks
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_configuration_and_missing_helpers_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let problems_of = |text: &str| {
            std::fs::write(directory.path().join("config.json"), text).unwrap();
            let failed = checks(Some(directory.path()), directory.path().as_os_str()).into_iter();
            failed.filter_map(|check| Some((check.id, check.result.err()?.to_string()))).collect::<Vec<_>>()
        };
        assert!(problems_of("{}").is_empty());
        assert!(
            matches!(&problems_of("{\n\"auths\": hunter2}")[..], [(Id::DockerConfig, text)] if text.contains("at line 2"))
        );
        let config = r#"{"credsStore": "desktop", "credHelpers": {"a.example": "here", "b.example": "desktop"}}"#;
        std::fs::write(directory.path().join("docker-credential-here"), "").unwrap();
        let found = problems_of(config);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, Id::CredentialHelper);
        assert!(found[0].1.contains("`docker-credential-desktop`"));
        assert!(checks(None, OsStr::new("")).is_empty());
    }
}
