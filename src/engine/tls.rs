//! The certificates with which an engine and its client prove who they are, from the files of the docker command.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// What a TLS connection to an engine needs.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// The directory of the files, for programs that read them themselves.
    pub directory: PathBuf,
    /// The certificates of the authorities that may vouch for the engine, as PEM; without them, those of this host.
    pub authority: Option<Vec<u8>>,
    /// The client's certificate and its key, as PEM.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
    /// The engine must prove that it has the host's name.
    pub verify: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key must not end up in a log.
        f.debug_struct("Tls").field("directory", &self.directory).field("verify", &self.verify).finish_non_exhaustive()
    }
}

impl Tls {
    /// That of `DOCKER_TLS_VERIFY`, `DOCKER_TLS` and `DOCKER_CERT_PATH`: the authority must be there, a client's certificate
    /// may be missing.
    pub fn of_variables(directory: &Path, verify: bool) -> Result<Self> {
        let authority = if verify { Some(needed(&directory.join("ca.pem"))?) } else { None };
        let client = client(directory)?;
        Ok(Self { directory: directory.to_owned(), authority, client, verify })
    }

    /// That of a context, if it has certificates or says that the engine's are not looked at.
    pub fn of_context(directory: &Path, verify: bool) -> Result<Option<Self>> {
        let authority = optional(&directory.join("ca.pem"))?;
        let client = client(directory)?;
        let any = authority.is_some() || client.is_some() || !verify;
        Ok(any.then(|| Self { directory: directory.to_owned(), authority, client, verify }))
    }
}

/// The client's certificate and key: both or none.
fn client(directory: &Path) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    match (optional(&certificate)?, optional(&key)?) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (None, Some(_)) => needed(&certificate).map(|_| None),
        (Some(_), None) => needed(&key).map(|_| None),
    }
}

fn optional(file: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(file) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(|source| unreadable(file, &source)),
    }
}

fn needed(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|source| unreadable(file, &source))
}

fn unreadable(file: &Path, source: &std::io::Error) -> Error {
    Error::new(Code::FileFailed, format!("cannot read `{}`, which TLS to the Docker engine needs", file.display()))
        .with_cause(source)
        .hint("set `DOCKER_CERT_PATH` to the directory with `ca.pem`, `cert.pem` and `key.pem`, or unset `DOCKER_TLS_VERIFY` and `DOCKER_TLS`")
}
