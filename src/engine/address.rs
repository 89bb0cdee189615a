//! Where the engine is: `DOCKER_HOST`, then the Docker context, then the usual socket.

use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// The settings that decide which engine is used.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `DOCKER_CONFIG` or `~/.docker`.
    pub docker_config: Option<PathBuf>,
}

impl Environment {
    /// Reads the settings of this process.
    pub fn from_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_config: text("DOCKER_CONFIG")
                .map(PathBuf::from)
                .or_else(|| dirs::home_dir().map(|home| home.join(".docker"))),
        }
    }
}

/// Where the engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket on this host.
    Unix(PathBuf),
    /// A host and port without encryption.
    Tcp(String),
}

impl Address {
    /// The engine runs on this host, so its files and published loopback ports can be used directly.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(host) => host.starts_with("127.") || host.starts_with("localhost:"),
        }
    }

    fn parse(text: &str, from: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if let Some(host) = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")) {
            return Ok(Self::Tcp(host.trim_end_matches('/').to_owned()));
        }
        let scheme = text.split("://").next().unwrap_or(text);
        Err(Error::new(Code::EngineUnsupported, format!("cannot use the engine at `{text}` (from {from})"))
            .because(format!("coracle supports engines at `unix://` and `tcp://`, not at `{scheme}://`"))
            .hint("run coracle on the engine's machine, or unset DOCKER_HOST (`docker context use default`)"))
    }
}

/// Finds out which engine is used.
pub fn resolve(environment: &Environment) -> Result<Address> {
    if let Some(host) = &environment.docker_host {
        return Address::parse(host, "DOCKER_HOST");
    }
    let context = environment.docker_context.clone().or_else(|| current_context(environment));
    if let Some(name) = context.filter(|name| name != "default") {
        let host = context_host(environment, &name)?;
        return Address::parse(&host, &format!("the Docker context `{name}`"));
    }
    Ok(Address::Unix(PathBuf::from("/var/run/docker.sock")))
}

fn current_context(environment: &Environment) -> Option<String> {
    let file = environment.docker_config.as_ref()?.join("config.json");
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    config["currentContext"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

fn context_host(environment: &Environment, name: &str) -> Result<String> {
    let missing = || {
        Error::new(Code::EngineUnreachable, format!("Docker context `{name}` does not exist"))
            .hint("`docker context ls` lists all contexts; `docker context use default` selects the local engine")
    };
    let contexts = environment.docker_config.as_ref().ok_or_else(missing)?.join("contexts/meta");
    for entry in std::fs::read_dir(contexts).map_err(|_| missing())?.flatten() {
        if let Some(host) = host_of(&entry.path().join("meta.json"), name) {
            return Ok(host);
        }
    }
    Err(missing())
}

fn host_of(file: &Path, name: &str) -> Option<String> {
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (meta["Name"] == name).then(|| meta["Endpoints"]["docker"]["Host"].as_str().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_host_wins_and_its_scheme_is_checked() {
        let with = |host: &str| Environment { docker_host: Some(host.to_owned()), ..Environment::default() };
        assert_eq!(resolve(&with("unix:///x.sock")).unwrap(), Address::Unix("/x.sock".into()));
        assert_eq!(resolve(&with("tcp://10.0.0.1:2375")).unwrap(), Address::Tcp("10.0.0.1:2375".to_owned()));
        let error = resolve(&with("ssh://me@host")).unwrap_err();
        assert_eq!(error.code(), Code::EngineUnsupported);
        assert!(error.to_string().contains("`ssh://`"));
    }

    #[test]
    fn the_current_context_is_followed() {
        let home = tempfile::tempdir().unwrap();
        let meta = home.path().join("contexts/meta/abc");
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(home.path().join("config.json"), r#"{"currentContext":"colima"}"#).unwrap();
        std::fs::write(meta.join("meta.json"), r#"{"Name":"colima","Endpoints":{"docker":{"Host":"unix:///c.sock"}}}"#)
            .unwrap();
        let mut environment = Environment { docker_config: Some(home.path().into()), ..Environment::default() };
        assert_eq!(resolve(&environment).unwrap(), Address::Unix("/c.sock".into()));
        environment.docker_context = Some("absent".to_owned());
        assert!(resolve(&environment).unwrap_err().to_string().contains("absent"));
        environment.docker_context = Some("default".to_owned());
        assert_eq!(resolve(&environment).unwrap(), Address::Unix("/var/run/docker.sock".into()));
    }
}
