//! The engine's errors, in terms of what a user can do about them.

use bollard::errors::Error as Source;

use crate::engine::address::Address;
use crate::engine::docker::REQUEST_TIMEOUT;
use crate::engine::spec::{ContainerSpec, ExecOutput, NetworkSpec};
use crate::error::{Code, Error, FREE_DISK, Reason, Result};

/// The HTTP status of the engine's answer.
pub(super) fn status(source: &Source) -> Option<u16> {
    match source {
        Source::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The engine's own message, without the words that bollard puts around it.
fn message_of(source: &Source) -> String {
    match source {
        Source::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Source::DockerStreamError { error } => error.trim().to_owned(),
        other => other.to_string(),
    }
}

/// An engine error without a more specific meaning.
pub(super) fn failed(what: &str, source: &Source) -> Error {
    let message = message_of(source);
    if message.contains(NO_SPACE) {
        return disk_full(what, message);
    }
    if message.ends_with(NO_WORK_DIRECTORY) {
        return disk_full(
            what,
            format!("the kernel made no work directory for overlay2, as with {NO_SPACE}: {message}"),
        );
    }
    if is_gone(source) {
        return Error::new(Code::EngineUnreachable, "the Docker engine no longer answers")
            .because(format!("{what}: {}", chain(source)))
            // No one listens: the request has reached no engine.
            .with_reason((!has_sign(source, &NOBODY)).then_some(Reason::AnswerLost))
            .hint(GONE);
    }
    if matches!(source, Source::RequestTimeoutError) {
        return Error::new(Code::EngineFailed, what)
            .because(format!("the engine did not do it within {REQUEST_TIMEOUT} s; it answers other requests"))
            .with_reason(Reason::AnswerLost)
            .hint(
                "the engine's log may say why (`journalctl --unit=docker`); restarting the engine ends the stuck request",
            );
    }
    let stopped = message.contains("is not running") || message.contains("is paused");
    let help = mount_help(&message).or_else(|| {
        // What the engine did not expect itself.
        let unexpected = status(source).is_some_and(|status| status >= 500) && !stopped;
        unexpected.then_some("the engine's log may say more: `journalctl --unit=docker`")
    });
    let error =
        Error::new(Code::EngineFailed, what).because(message).with_reason(stopped.then_some(Reason::NotRunning));
    match help {
        Some(help) => error.hint(help),
        None => error,
    }
}

/// What helps with an engine that was there; which one it is, `docker context ls` and the variables say.
const GONE: &str = "`docker info` must succeed; on the engine's machine, `sudo systemctl restart docker` restarts it";

/// A call to an engine that takes connections, and answers nothing any more.
pub(super) fn silent(what: &str) -> Error {
    Error::new(Code::EngineUnreachable, "the Docker engine no longer answers")
        .because(format!("{what}: it hangs, or the network to it is cut"))
        .with_reason(Reason::AnswerLost)
        .hint(GONE)
}

/// The kernel's message for a full disk.
const NO_SPACE: &str = "no space left on device";
/// How overlay2 ends if the disk fills up at the wrong moment: the kernel mounts a layer without the directory that it could
/// not make, and says so only in its own log; the engine then misses the directory.
const NO_WORK_DIRECTORY: &str = "/work/work: no such file or directory";

fn disk_full(what: &str, message: String) -> Error {
    Error::new(Code::DiskFull, what).because(message).hint(format!("the engine's disk is full: {FREE_DISK}"))
}

/// The output of a command, unless the engine could not start it: the engine then writes its error in place of the
/// output.
pub(super) fn exec(what: &str, output: ExecOutput) -> Result<ExecOutput> {
    let message = String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout });
    if output.exit_code != 0 && message.starts_with("OCI runtime exec failed") && message.contains(NO_SPACE) {
        return Err(disk_full(what, message.trim().to_owned()));
    }
    Ok(output)
}

/// The error with its sources.
fn chain(source: &Source) -> String {
    Error::new(Code::EngineUnreachable, "").with_cause(source).cause().unwrap_or_default().to_owned()
}

/// Signs that no engine listens.
const NOBODY: [&str; 2] = ["connection refused", "no such file"];
/// Signs that an engine went away, or a connection to it.
const CUT: [&str; 3] = ["connection closed", "connection reset", "broken pipe"];

/// The engine answered before and is gone: it was stopped or killed.
fn is_gone(source: &Source) -> bool {
    let transport =
        matches!(source, Source::HyperLegacyError { .. } | Source::HyperResponseError { .. } | Source::IOError { .. });
    transport && (has_sign(source, &NOBODY) || has_sign(source, &CUT))
}

fn has_sign(source: &Source, signs: &[&str]) -> bool {
    let text = chain(source).to_lowercase();
    signs.iter().any(|sign| text.contains(sign))
}

/// Turns "not found" into `None`.
pub(super) fn absent_is_none<T>(result: Result<T, Source>, what: &str) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(source) if status(&source) == Some(404) => Ok(None),
        Err(source) => Err(failed(what, &source)),
    }
}

/// Succeeds also when the object is absent or is already stopped.
pub(super) fn absent_is_fine(result: Result<(), Source>, what: &str) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(source) if matches!(status(&source), Some(404 | 304)) => Ok(()),
        Err(source) => Err(failed(what, &source)),
    }
}

/// Another command is removing the object, which still has its volumes and its networks.
pub(super) fn is_being_removed(source: &Source) -> bool {
    status(source) == Some(409) && message_of(source).contains("already in progress")
}

/// The container is already paused.
pub(super) fn is_paused(source: &Source) -> bool {
    message_of(source).contains("already paused")
}

/// A container that was not paused. With cgroup v1, the kernel gives up on processes that are just being made.
pub(super) fn not_paused(container: &str, source: &Source) -> Error {
    let is_unfrozen = message_of(source).contains("unable to freeze");
    let error = failed(&format!("cannot pause container `{container}`"), source);
    if is_unfrozen { error.with_reason(Some(Reason::NotFrozen)) } else { error }
}

/// The container is not paused, so that it need not be unpaused.
pub(super) fn is_not_paused(source: &Source) -> bool {
    message_of(source).contains("is not paused")
}

/// The container is already connected to the network.
pub(super) fn is_connected(source: &Source) -> bool {
    message_of(source).contains("already exists in network")
}

/// The container is not connected to the network.
pub(super) fn is_not_connected(source: &Source) -> bool {
    message_of(source).contains("is not connected to")
}

/// The engine cannot be reached.
pub(super) fn unreachable(address: &Address, source: &Source) -> Error {
    let place = match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp { .. } => address.to_string(),
    };
    let text = chain(source);
    let denied = text.to_lowercase().contains("permission denied")
        || matches!(address, Address::Unix(path) if std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied));
    if denied {
        return Error::new(Code::EnginePermission, format!("you are not allowed to use the Docker engine at {place}"))
            .because("permission denied")
            .hint("`sudo usermod -aG docker $USER`, then log in again (or `newgrp docker`)")
            .hint(format!(
                "or run it as root this once; use the full path, because sudo may not find it: `sudo {} …`",
                program()
            ));
    }
    let error = Error::new(Code::EngineUnreachable, format!("cannot reach the Docker engine at {place}"));
    if matches!(source, Source::RequestTimeoutError) {
        return error.because("it accepts connections, but does not answer").hint(match address {
            Address::Unix(_) => "it hangs: `sudo systemctl restart docker`, or restart Docker Desktop".to_owned(),
            Address::Tcp { .. } => start_hint(address),
        });
    }
    error.because(text.clone()).hint(match address {
        Address::Tcp { tls: None, .. } if text.contains("HTTP request to an HTTPS server") => {
            "it speaks TLS: set `DOCKER_TLS_VERIFY=1`, and `DOCKER_CERT_PATH` to the directory with its `ca.pem`, `cert.pem` and `key.pem`".to_owned()
        }
        Address::Tcp { tls: Some(_), .. } if text.contains("InvalidContentType") => {
            "it does not speak TLS at this port: unset `DOCKER_TLS_VERIFY` and `DOCKER_TLS`, or correct the port (usually 2376 with TLS, 2375 without)".to_owned()
        }
        // An engine that asks for a certificate may close the connection before its reason is read.
        Address::Tcp { tls: Some(tls), .. } if ["ertificate", "alert", "UnknownIssuer"].iter().any(|word| text.contains(word)) || has_sign(source, &CUT) => {
            format!("the certificates in `{}` must be those of this engine and name its host; `docker -H {address} --tlsverify info` must succeed", tls.directory.display())
        }
        _ => start_hint(address),
    })
}

/// The path of this program.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "coracle".to_owned(), |path| path.display().to_string())
}

/// What to do about an engine that may not run.
fn start_hint(address: &Address) -> String {
    match address {
        Address::Unix(path) if path.as_os_str() == "/var/run/docker.sock" => {
            "start it: `sudo systemctl start docker`, or open Docker Desktop; then `docker info` must succeed"
                .to_owned()
        }
        Address::Unix(_) => format!("start it, or correct the address: `docker -H {address} info` must succeed"),
        Address::Tcp { .. } => format!(
            "start the engine there, or correct `DOCKER_HOST` or the Docker context: `docker -H {address} info` must succeed"
        ),
    }
}

/// A network that could not be created.
pub(super) fn network(spec: &NetworkSpec, source: &Source) -> Error {
    let subnets: Vec<String> = spec.subnets().iter().map(ToString::to_string).collect();
    let what = format!("cannot create network `{}` with subnet {}", spec.name, subnets.join(" and "));
    let message = message_of(source);
    // The last one: two runs chose the same free subnet at the same moment, and the other one has the gateway's address.
    let clash = ["overlaps", "no available network", "conflicts with network", "Address already in use"];
    if clash.iter().any(|text| message.contains(text)) {
        return Error::new(Code::SubnetClash, what).because(message).hint(
            "choose another subnet with `networking.nodeSubnet`; `docker network ls` shows the existing networks",
        );
    }
    failed(&what, source)
}

/// A container that could not be created.
pub(super) fn create(spec: &ContainerSpec, source: &Source) -> Error {
    let what = format!("cannot create container `{}`", spec.name);
    let message = message_of(source);
    match status(source) {
        Some(409) if message.contains("already in use") => Error::new(Code::EngineFailed, what)
            .because(format!("a container named `{}` already exists", spec.name))
            .with_reason(Reason::NameTaken),
        Some(404) if message.to_lowercase().contains("no such image") => {
            Error::new(Code::ImageMissing, what).because(message).hint("build it: `coracle build node-image`")
        }
        _ => failed(&what, source),
    }
}

/// What helps against a mount that the engine refuses, where this host could not tell before.
fn mount_help(message: &str) -> Option<&'static str> {
    if message.contains("bind source path does not exist") {
        return Some("`hostPath` is a path of the engine's host: create it there, or correct it");
    }
    let is_private = message.contains("not a shared mount") || message.contains("not a shared or slave mount");
    is_private.then_some("on the engine's host: `sudo mount --make-rshared MOUNT_POINT`; or omit `propagation`")
}

/// A container that could not be started.
pub(super) fn start(container: &str, source: &Source) -> Error {
    let message = message_of(source);
    let port = ["port is already allocated", "address already in use", "Ports are not available"];
    if !port.iter().any(|text| message.contains(text)) {
        let error = failed(&format!("cannot start container `{container}`"), source);
        return match start_reason(&message) {
            Some(reason) => error.with_reason(reason),
            None => error,
        };
    }
    let what = match address_in(&message) {
        Some(address) => format!("port {} on {} is taken", address.port(), address.ip()),
        None => "a host port is taken".to_owned(),
    };
    let who = address_in(&message)
        .map_or_else(|| "-lntp".to_owned(), |address| format!("-lnp 'sport = :{}'", address.port()));
    Error::new(Code::PortTaken, what).because(message).hint(format!(
        "`ss {who}` shows which program uses it; free it, or set another `hostPort` or `networking.apiServerPort` in the configuration"
    ))
}

/// Why a container did not start, where another attempt can succeed.
fn start_reason(message: &str) -> Option<Reason> {
    let has = |text: &str| message.contains(text);
    if has("unable to apply caps") || has("operation not permitted") {
        return Some(Reason::CapabilityMissing);
    }
    has("is ambiguous").then_some(Reason::NetworkAmbiguous)
}

/// The first address with a port in the engine's message.
fn address_in(message: &str) -> Option<std::net::SocketAddr> {
    message.split_whitespace().find_map(|word| word.trim_end_matches([':', ',']).parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(message: &str) -> Source {
        Source::DockerResponseServerError { status_code: 500, message: message.to_owned() }
    }

    #[test]
    fn the_port_that_is_taken_is_named() {
        let proxy = "driver failed programming external connectivity on endpoint t (11a6): Error starting userland proxy: \
                     listen tcp4 127.0.0.1:28765: bind: address already in use";
        let error = start("0123", &answer(proxy));
        assert_eq!((error.code(), error.message()), (Code::PortTaken, "port 28765 on 127.0.0.1 is taken"));
        assert!(error.hints()[0].starts_with("`ss -lnp 'sport = :28765'`"));
        let other = start("0123", &answer("Bind for 0.0.0.0:8080 failed: port is already allocated"));
        assert_eq!(other.message(), "port 8080 on 0.0.0.0 is taken");
        assert_eq!(start("0123", &answer("no such file")).code(), Code::EngineFailed);
    }

    #[test]
    fn an_engine_that_is_gone_differs_from_one_that_refuses() {
        let gone = Source::IOError { err: std::io::Error::from(std::io::ErrorKind::ConnectionRefused) };
        assert_eq!(failed("cannot inspect", &gone).code(), Code::EngineUnreachable);
        let other = Source::IOError { err: std::io::Error::other("the archive ends early") };
        assert_eq!(failed("cannot upload", &other).code(), Code::EngineFailed);
        assert_eq!(failed("cannot create", &answer("Connection refused by the plugin")).code(), Code::EngineFailed);
    }

    #[test]
    fn a_mount_that_only_the_engine_can_judge_is_told_as_one() {
        let spec = ContainerSpec::new("dev-control-plane", "node");
        let missing = "invalid mount config for type \"bind\": bind source path does not exist: /absent";
        assert!(create(&spec, &answer(missing)).hints()[0].contains("path of the engine's host"));
        let private = "linux mounts: path /srv is mounted on / but it is not a shared mount.";
        assert!(start("0123", &answer(private)).hints()[0].contains("mount --make-rshared"));
    }

    #[test]
    fn a_full_disk_is_recognised() {
        let error = start("0123", &answer("mkdir /var/lib/docker/overlay2/x: no space left on device"));
        assert_eq!(error.code(), Code::DiskFull);
        let error = failed("cannot create", &answer("chown /d/overlay2/0-init/work/work: no such file or directory"));
        assert_eq!(error.code(), Code::DiskFull);
        assert!(error.cause().unwrap().contains(NO_SPACE), "{error}");
        let other = failed("cannot create", &answer("lstat /d/overlay2/0/work: no such file or directory"));
        assert_eq!(other.code(), Code::EngineFailed);
        let message = "OCI runtime exec failed: write /run/x: no space left on device: unknown";
        let output = ExecOutput { exit_code: 126, stdout: message.into(), stderr: Vec::new() };
        assert_eq!(exec("cannot run `stat`", output).unwrap_err().code(), Code::DiskFull);
        let by_the_program =
            ExecOutput { exit_code: 1, stdout: "tar: no space left on device".into(), stderr: Vec::new() };
        assert!(exec("cannot run `tar`", by_the_program).is_ok());
    }

    #[test]
    fn a_failure_that_callers_act_on_has_a_reason() {
        let message =
            "failed to create task: runc create failed: unable to apply caps: operation not permitted: unknown";
        assert_eq!(start("0123", &answer(message)).reason(), Some(Reason::CapabilityMissing));
        let message = "network coracle-dev is ambiguous (2 matches found on name)";
        assert_eq!(start("0123", &answer(message)).reason(), Some(Reason::NetworkAmbiguous));
        assert_eq!(start("0123", &answer("no such file")).reason(), None);
        let message = "Cannot pause container 0123: runc: unable to freeze: unknown";
        assert_eq!(not_paused("0123", &answer(message)).reason(), Some(Reason::NotFrozen));
        let message = "Container 0123 is not running";
        assert_eq!(failed("cannot run `true`", &answer(message)).reason(), Some(Reason::NotRunning));
        let taken = Source::DockerResponseServerError { status_code: 409, message: "is already in use by".to_owned() };
        let error = create(&ContainerSpec::new("dev-control-plane", "node"), &taken);
        assert_eq!((error.code(), error.reason()), (Code::EngineFailed, Some(Reason::NameTaken)));
    }
}
