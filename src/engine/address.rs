//! Where the engine is: `DOCKER_HOST`, then the Docker context, then the usual socket, as the docker command reads them.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::engine::tls::Tls;
use crate::error::{Code, Error, Result};

/// Where the engine of this host listens, unless it is told otherwise.
const USUAL_SOCKET: &str = "/var/run/docker.sock";
/// The port of an engine whose address has none. The docker command takes it with TLS too.
const USUAL_PORT: u16 = 2375;
/// The port of an engine with TLS, where nothing names a host.
const USUAL_TLS_PORT: u16 = 2376;

/// The settings that decide which engine is used.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `DOCKER_CONFIG` or `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// `DOCKER_TLS_VERIFY` has a value, whichever: TLS, and the engine must prove that it is the one.
    pub docker_tls_verify: bool,
    /// `DOCKER_TLS` has a value, whichever: TLS.
    pub docker_tls: bool,
    /// `DOCKER_CERT_PATH`.
    pub docker_cert_path: Option<PathBuf>,
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
            docker_tls_verify: text("DOCKER_TLS_VERIFY").is_some(),
            docker_tls: text("DOCKER_TLS").is_some(),
            docker_cert_path: text("DOCKER_CERT_PATH").map(PathBuf::from),
        }
    }

    /// The TLS that the variables ask for, if they do.
    fn tls(&self) -> Result<Option<Tls>> {
        if !self.docker_tls && !self.docker_tls_verify {
            return Ok(None);
        }
        let directory = self.docker_cert_path.clone().or_else(|| self.docker_config.clone()).unwrap_or_default();
        Tls::of_variables(&directory, self.docker_tls_verify).map(Some)
    }
}

/// Where the engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket on this host.
    Unix(PathBuf),
    /// A host and its port.
    Tcp {
        /// Name or address of the host; an IPv6 address without brackets.
        host: String,
        port: u16,
        /// Without it, in plain text.
        tls: Option<Tls>,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port, .. } => write!(f, "tcp://{}", authority(host, *port)),
        }
    }
}

/// A host and a port as they stand in a URL.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Address {
    /// The engine is reached at an address of this host, so its published loopback ports can be used directly.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }

    /// Reads an address; `tls` is looked for only where it matters, since a socket of this host needs none.
    fn parse(text: &str, from: &str, tls: impl FnOnce() -> Result<Option<Tls>>) -> Result<Self> {
        let text = text.trim();
        match text.split_once("://") {
            Some(("unix", "")) => Ok(Self::Unix(PathBuf::from(USUAL_SOCKET))),
            Some(("unix", path)) => Ok(Self::Unix(PathBuf::from(path))),
            Some(("tcp" | "http", rest)) => Self::tcp(rest, tls).map_err(|error| of_address(error, text, from)),
            Some((scheme, _)) => Err(unsupported(text, from, scheme)),
            None if text.starts_with('/') => Err(Error::new(Code::EngineUnsupported, "it is a path")
                .because("an address without a scheme is a host and a port")
                .hint(format!("for a socket: `DOCKER_HOST=unix://{text}`")))
            .map_err(|error| of_address(error, text, from)),
            // As the docker command reads it.
            None => Self::tcp(text, tls).map_err(|error| of_address(error, text, from)),
        }
    }

    fn tcp(text: &str, tls: impl FnOnce() -> Result<Option<Tls>>) -> Result<Self> {
        let wrong = |cause: &str| Error::new(Code::EngineUnsupported, "").because(cause);
        let text = text.trim_end_matches('/');
        if text.contains('/') {
            return Err(wrong("it has a path, and coracle supports only engines at the root of their port"));
        }
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(None) => return Err(wrong("its `[` has no `]`")),
            Some(Some((host, rest))) => (host, rest.strip_prefix(':')),
            // An IPv6 address without brackets, and so without a port.
            None if text.parse::<std::net::Ipv6Addr>().is_ok() => (text, None),
            None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.chars().any(|letter| letter.is_whitespace() || "[]@?#".contains(letter)) {
            return Err(wrong("its host is neither a name nor an address"));
        }
        let port = port.filter(|port| !port.is_empty()).map(str::parse).transpose();
        let port = port.map_err(|_| wrong("its port is not a number up to 65535"))?.unwrap_or(USUAL_PORT);
        let host = if host.is_empty() { "localhost" } else { host };
        Ok(Self::Tcp { host: host.to_owned(), port, tls: tls()? })
    }
}

/// Names the address in an error about it; one about a file of the certificates already has a message.
fn of_address(error: Error, text: &str, from: &str) -> Error {
    if error.code() != Code::EngineUnsupported {
        return error;
    }
    Error::new(error.code(), format!("cannot use the engine at `{text}` (from {from})"))
        .because(error.cause().unwrap_or_default())
        .with_hints(error.hints())
        .hint("examples: `unix:///var/run/docker.sock`, `tcp://docker:2376`, `tcp://[::1]:2375`")
}

fn unsupported(text: &str, from: &str, scheme: &str) -> Error {
    let error = Error::new(Code::EngineUnsupported, format!("cannot use the engine at `{text}` (from {from})"))
        .because(format!("coracle supports engines at `unix://` and `tcp://`, not at `{scheme}://`"));
    if scheme == "https" {
        return error.hint("write `tcp://`, and set `DOCKER_TLS_VERIFY=1` and `DOCKER_CERT_PATH`");
    }
    error.hint("run coracle on the engine's machine, or unset DOCKER_HOST (`docker context use default`)")
}

/// Finds out which engine is used.
pub fn resolve(environment: &Environment) -> Result<Address> {
    if let Some(host) = &environment.docker_host {
        return Address::parse(host, "DOCKER_HOST", || environment.tls());
    }
    let context = environment.docker_context.clone().or_else(|| current_context(environment));
    if let Some(name) = context.filter(|name| name != "default") {
        return of_context(environment, &name);
    }
    match environment.tls()? {
        Some(tls) => Ok(Address::Tcp { host: "localhost".to_owned(), port: USUAL_TLS_PORT, tls: Some(tls) }),
        None => Ok(Address::Unix(PathBuf::from(USUAL_SOCKET))),
    }
}

fn current_context(environment: &Environment) -> Option<String> {
    let file = environment.docker_config.as_ref()?.join("config.json");
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    config["currentContext"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The engine of a Docker context. Variables about TLS are not for it.
fn of_context(environment: &Environment, name: &str) -> Result<Address> {
    let missing = || {
        Error::new(Code::EngineUnreachable, format!("Docker context `{name}` does not exist"))
            .hint("`docker context ls` lists all contexts; `docker context use default` selects the local engine")
    };
    let contexts = environment.docker_config.as_ref().ok_or_else(missing)?.join("contexts");
    for entry in std::fs::read_dir(contexts.join("meta")).map_err(|_| missing())?.flatten() {
        let Some(endpoint) = endpoint_of(&entry.path().join("meta.json"), name) else { continue };
        let host = endpoint["Host"].as_str().unwrap_or("unix://");
        // Its certificates are in a directory that has the same name as that of its description.
        let directory = contexts.join("tls").join(entry.file_name()).join("docker");
        let skip = endpoint["SkipTLSVerify"].as_bool().unwrap_or_default();
        return Address::parse(host, &format!("the Docker context `{name}`"), || Tls::of_context(&directory, !skip));
    }
    Err(missing())
}

fn endpoint_of(file: &Path, name: &str) -> Option<serde_json::Value> {
    let mut meta: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (meta["Name"] == name).then(|| meta["Endpoints"]["docker"].take())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> Result<Address> {
        resolve(&Environment { docker_host: Some(host.to_owned()), ..Environment::default() })
    }

    #[test]
    fn docker_host_wins_and_its_scheme_is_checked() {
        assert_eq!(at("unix:///x.sock").unwrap(), Address::Unix("/x.sock".into()));
        assert_eq!(at("unix://").unwrap(), Address::Unix(USUAL_SOCKET.into()));
        let error = at("ssh://me@host").unwrap_err();
        assert_eq!(error.code(), Code::EngineUnsupported);
        assert!(error.to_string().contains("`ssh://`"));
        assert!(at("https://docker:2376").unwrap_err().hints()[0].contains("DOCKER_TLS_VERIFY=1"));
        assert!(at("/var/run/x.sock").unwrap_err().hints()[0].contains("unix:///var/run/x.sock"));
    }

    #[test]
    fn hosts_and_ports_are_read_as_the_docker_command_reads_them() {
        let cases = [
            ("tcp://10.0.0.1:2375", "10.0.0.1", 2375),
            ("tcp://docker", "docker", 2375),
            ("tcp://docker:2376/", "docker", 2376),
            ("127.0.0.1:99", "127.0.0.1", 99),
            ("docker", "docker", 2375),
            ("tcp://", "localhost", 2375),
            ("tcp://:99", "localhost", 99),
            ("tcp://[::1]:99", "::1", 99),
            ("[::1]", "::1", 2375),
            ("fd00::5", "fd00::5", 2375),
            (" tcp://docker:2376 ", "docker", 2376),
        ];
        for (text, host, port) in cases {
            assert_eq!(at(text).unwrap(), Address::Tcp { host: host.to_owned(), port, tls: None }, "{text}");
        }
        for text in ["tcp://docker:http", "tcp://docker:99999", "tcp://docker/path", "tcp://[::1", "tcp://me@docker"] {
            let error = at(text).unwrap_err();
            assert_eq!(error.code(), Code::EngineUnsupported, "{text}");
            assert!(error.message().contains(&format!("`{text}` (from DOCKER_HOST)")) && error.cause().is_some());
        }
        assert_eq!(at("tcp://[::1]:99").unwrap().to_string(), "tcp://[::1]:99");
        let is_local = |text: &str| at(text).unwrap().is_local();
        assert!(["tcp://[::1]:99", "tcp://localhost", "127.0.0.2:99", "unix:///x"].into_iter().all(is_local));
        assert!(!["tcp://docker", "tcp://localhost.example:1", "10.0.0.1:99"].into_iter().any(is_local));
    }

    #[test]
    fn variables_ask_for_tls_and_a_missing_file_is_named() {
        let home = tempfile::tempdir().unwrap();
        let mut environment = Environment { docker_config: Some(home.path().into()), ..Environment::default() };
        environment.docker_tls_verify = true;
        let error = resolve(&environment).unwrap_err();
        assert_eq!(error.code(), Code::FileFailed);
        assert!(error.message().contains(&home.path().join("ca.pem").display().to_string()), "{error}");
        // A socket of this host has no use for it.
        environment.docker_host = Some("unix:///x".to_owned());
        assert_eq!(resolve(&environment).unwrap(), Address::Unix("/x".into()));
        let certificates = home.path().join("certificates");
        std::fs::create_dir(&certificates).unwrap();
        std::fs::write(certificates.join("ca.pem"), "ca").unwrap();
        environment.docker_cert_path = Some(certificates);
        environment.docker_host = None;
        let Address::Tcp { host, port, tls: Some(tls) } = resolve(&environment).unwrap() else { panic!("no TLS") };
        assert_eq!((host.as_str(), port, tls.verify, tls.client), ("localhost", 2376, true, None));
        environment.docker_host = Some("tcp://docker".to_owned());
        assert!(matches!(resolve(&environment).unwrap(), Address::Tcp { port: 2375, tls: Some(_), .. }));
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

    #[test]
    fn a_context_brings_its_own_certificates() {
        let home = tempfile::tempdir().unwrap();
        let (meta, tls) = (home.path().join("contexts/meta/abc"), home.path().join("contexts/tls/abc/docker"));
        std::fs::create_dir_all(&meta).unwrap();
        let endpoint = |skip: bool| {
            let text = serde_json::json!({"Name": "far", "Endpoints": {"docker": {"Host": "tcp://far:2376", "SkipTLSVerify": skip}}});
            std::fs::write(meta.join("meta.json"), text.to_string()).unwrap();
        };
        let environment = Environment {
            docker_config: Some(home.path().into()),
            docker_context: Some("far".to_owned()),
            // Not for contexts.
            docker_tls_verify: true,
            ..Environment::default()
        };
        let found = || match resolve(&environment).unwrap() {
            Address::Tcp { tls, .. } => tls,
            Address::Unix(_) => panic!("a socket"),
        };
        endpoint(false);
        assert_eq!(found(), None);
        endpoint(true);
        assert!(!found().unwrap().verify);
        endpoint(false);
        std::fs::create_dir_all(&tls).unwrap();
        for name in ["ca", "cert", "key"] {
            std::fs::write(tls.join(format!("{name}.pem")), name).unwrap();
        }
        let found = found().unwrap();
        assert!(found.verify && found.authority == Some(b"ca".to_vec()));
        assert_eq!(found.client, Some((b"cert".to_vec(), b"key".to_vec())));
        assert!(!format!("{found:?}").contains("key"), "a key in a message");
    }
}
