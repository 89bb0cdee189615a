//! What the engine's errors mean for the person who reads them.

use bollard::errors::Error as Source;

use super::{Address, ContainerSpec, NetworkSpec};
use crate::error::{Code, Error, Result};

/// The HTTP status of the engine's answer.
pub(super) fn status(source: &Source) -> Option<u16> {
    match source {
        Source::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine said, without what bollard puts around it.
fn said(source: &Source) -> String {
    match source {
        Source::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Source::DockerStreamError { error } => error.trim().to_owned(),
        other => other.to_string(),
    }
}

/// An engine error with no meaning of its own.
pub(super) fn failed(what: &str, source: &Source) -> Error {
    let said = said(source);
    if said.contains("no space left on device") {
        return Error::new(Code::DiskFull, what).because(said).hint(
            "the engine's disk is full: `docker system df` shows what takes space, `docker system prune` frees some",
        );
    }
    Error::new(Code::EngineFailed, what).because(said)
}

/// Success when the thing is gone, is being removed already, or was stopped already.
pub(super) fn absent_is_fine(result: Result<(), Source>, what: &str) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(source) if matches!(status(&source), Some(404 | 304)) => Ok(()),
        Err(source) if status(&source) == Some(409) && said(&source).contains("already in progress") => Ok(()),
        Err(source) => Err(failed(what, &source)),
    }
}

/// No connection to the engine.
pub(super) fn unreachable(address: &Address, source: &Source) -> Error {
    let place = match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp(host) => format!("tcp://{host}"),
    };
    let text = Error::new(Code::EngineUnreachable, "").cause(source).cause_text().unwrap_or_default().to_owned();
    let denied = text.to_lowercase().contains("permission denied")
        || matches!(address, Address::Unix(path) if std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied));
    if denied {
        return Error::new(Code::EnginePermission, format!("you may not use the Docker engine at {place}"))
            .because("permission denied")
            .hint("`sudo usermod -aG docker $USER`, then log in again (or `newgrp docker`)");
    }
    Error::new(Code::EngineUnreachable, format!("cannot reach the Docker engine at {place}"))
        .because(text)
        .hint("start it: `sudo systemctl start docker`, or open Docker Desktop; `docker info` must answer")
}

/// A network that could not be created.
pub(super) fn network(spec: &NetworkSpec, source: &Source) -> Error {
    let what = format!("cannot create network `{}` with subnet {}", spec.name, spec.subnet);
    let said = said(source);
    let clash = ["overlaps", "no available network", "conflicts with network"];
    if clash.iter().any(|text| said.contains(text)) {
        return Error::new(Code::SubnetClash, what)
            .because(said)
            .hint("choose another one with `networking.nodeSubnet`; `docker network ls` shows what is there");
    }
    failed(&what, source)
}

/// A container that could not be created.
pub(super) fn create(spec: &ContainerSpec, source: &Source) -> Error {
    let what = format!("cannot create container `{}`", spec.name);
    let said = said(source);
    match status(source) {
        Some(409) if said.contains("already in use") => Error::new(Code::ClusterExists, what)
            .because(format!("there is a container with the name `{}`", spec.name))
            .hint("`coracle get clusters` lists clusters; choose another `--name`, or delete that one first"),
        Some(404) if said.to_lowercase().contains("no such image") => {
            Error::new(Code::ImageMissing, what).because(said).hint("build it: `coracle build node-image`")
        }
        _ => failed(&what, source),
    }
}

/// A container that could not be started.
pub(super) fn start(container: &str, source: &Source) -> Error {
    let what = format!("cannot start container `{container}`");
    let said = said(source);
    let port = ["port is already allocated", "address already in use", "Ports are not available"];
    if port.iter().any(|text| said.contains(text)) {
        return Error::new(Code::PortTaken, what)
            .because(said)
            .hint("free that port (`ss -ltnp` shows who has it), or set another `hostPort` in the configuration");
    }
    failed(&what, source)
}
