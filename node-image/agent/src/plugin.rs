//! The CNI plugins: the agent's program under other names.
//!
//! `coracle-policy` is the last in the chain: a pod starts when its network policies are in force. It records the addresses
//! of the pod, tells the agent, and waits for the answer. While the agent is not running, no pod starts except those of
//! `kube-system`, so that a cluster can boot.
//!
//! `coracle-ipv6` is the first if pods have IPv6: it makes the addresses of the pod usable at once. The kernel would search
//! for duplicates of each address for up to 2 s, and `ptp` waits for that; but `host-local` assigns each address once, and
//! only the node is at the other end of the pod's link.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{io, thread};

use coracle_shared::cni::IPV6_PLUGIN;
use coracle_shared::paths::RUN_DIRECTORY;
use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::object::NamespacedName;
use crate::policy::records::{self, Record};
use crate::policy::{Command, Request, SOCKET};

/// How long a pod waits for its rules; the kubelet then retries.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause between attempts to reach an agent that may be about to start.
const PAUSE: Duration = Duration::from_millis(50);
/// The setting with which an interface starts.
const DETECTION: &str = "/proc/sys/net/ipv6/conf/default/accept_dad";
/// The namespace of the pods that a cluster needs to boot.
const SYSTEM_NAMESPACE: &str = "kube-system";
/// CNI's code for "try again later".
const TRY_AGAIN: u32 = 11;
/// CNI's codes for an invalid environment or configuration.
const WRONG_ENVIRONMENT: u32 = 4;
const WRONG_CONFIGURATION: u32 = 7;

/// What the runtime writes to standard input.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    cni_version: String,
    #[serde(rename = "type")]
    plugin: String,
    #[serde(default)]
    run_directory: Option<PathBuf>,
    #[serde(default)]
    prev_result: Option<Value>,
}

#[derive(Debug)]
struct Failure {
    code: u32,
    text: String,
}

impl Failure {
    fn new(code: u32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// Does what `CNI_COMMAND` asks for; the result goes to standard output, as CNI requires.
#[expect(clippy::print_stdout, reason = "a CNI plugin answers on its standard output")]
pub(crate) fn main(command: &str) -> ExitCode {
    let mut text = String::new();
    let input = io::stdin().read_to_string(&mut text).map_err(|error| error.to_string());
    let input = input.and_then(|_| serde_json::from_str::<Input>(&text).map_err(|error| error.to_string()));
    let version = input.as_ref().map_or("0.4.0", |input| input.cni_version.as_str()).to_owned();
    let environment = |name: &str| std::env::var(name).unwrap_or_default();
    let result = input
        .map_err(|error| Failure::new(WRONG_CONFIGURATION, format!("the configuration is invalid: {error}")))
        .and_then(|input| perform(command, &input, environment));
    match result {
        Ok(answer) => {
            if !answer.is_null() {
                println!("{answer}");
            }
            ExitCode::SUCCESS
        }
        Err(Failure { code, text }) => {
            println!("{}", json!({ "cniVersion": version, "code": code, "msg": text }));
            ExitCode::FAILURE
        }
    }
}

fn perform(command: &str, input: &Input, environment: impl Fn(&str) -> String) -> Result<Value, Failure> {
    let run = input.run_directory.as_deref().unwrap_or(Path::new(RUN_DIRECTORY));
    match command {
        "VERSION" => Ok(json!({
            "cniVersion": input.cni_version,
            "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        })),
        "ADD" if input.plugin == IPV6_PLUGIN => {
            trust_addresses(&environment("CNI_NETNS"))
                .map_err(|error| Failure::new(TRY_AGAIN, format!("cannot prepare the pod's network: {error}")))?;
            // The addresses come from the next plugin.
            let none = json!({ "cniVersion": input.cni_version, "interfaces": [], "ips": [] });
            Ok(input.prev_result.clone().unwrap_or(none))
        }
        "ADD" => {
            let result = input.prev_result.clone().ok_or_else(|| {
                Failure::new(WRONG_CONFIGURATION, "coracle-policy must come after a plugin that assigns addresses")
            })?;
            if let Some(request) = request(Command::Add, environment, addresses(&result)) {
                add(run, &request)?;
            }
            Ok(result)
        }
        "DEL" if input.plugin == IPV6_PLUGIN => Ok(Value::Null),
        "DEL" => {
            if let Some(request) = request(Command::Del, environment, Vec::new()) {
                del(run, &request);
            }
            Ok(Value::Null)
        }
        // Nothing to check: the agent maintains its rules itself.
        "CHECK" | "GC" | "STATUS" => Ok(Value::Null),
        other => Err(Failure::new(WRONG_ENVIRONMENT, format!("CNI_COMMAND is `{other}`"))),
    }
}

/// Moves this process into the pod's network namespace, for good, and switches duplicate address detection off for new interfaces.
fn trust_addresses(namespace: &str) -> io::Result<()> {
    setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
    match fs::write(DETECTION, "0") {
        // A kernel without IPv6: the plugin that adds an address reports that better.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The request to the agent; `None` for a container without a pod, such as one of `ctr run --cni`.
fn request(command: Command, environment: impl Fn(&str) -> String, addresses: Vec<IpAddr>) -> Option<Request> {
    let arguments = environment("CNI_ARGS");
    let argument = |name: &str| {
        let mut pairs = arguments.split(';').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let (namespace, name) = (argument("K8S_POD_NAMESPACE"), argument("K8S_POD_NAME"));
    // Both become part of a file name.
    if [&namespace, &name].iter().any(|part| part.is_empty() || part.contains(['/', '_'])) {
        return None;
    }
    let (uid, container) = (argument("K8S_POD_UID"), environment("CNI_CONTAINERID"));
    Some(Request { command, namespace, name, uid, container, addresses })
}

/// The pod's addresses, from the result of the previous plugin.
fn addresses(result: &Value) -> Vec<IpAddr> {
    let addresses = result["ips"].as_array().into_iter().flatten();
    addresses.filter_map(|ip| Some(ip["address"].as_str()?.parse::<IpNet>().ok()?.addr())).collect()
}

fn add(run: &Path, request: &Request) -> Result<(), Failure> {
    let pod = NamespacedName { namespace: request.namespace.clone(), name: request.name.clone() };
    let record = Record { container: request.container.clone(), addresses: request.addresses.clone() };
    // Written before the agent is asked: an agent that is just starting finds either the record or the request.
    records::write(run, &pod, &record)
        .map_err(|error| Failure::new(TRY_AGAIN, format!("cannot write to `{}`: {error}", run.display())))?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut last = String::new();
    while Instant::now() < deadline {
        match UnixStream::connect(run.join(SOCKET)) {
            Ok(stream) => match ask(stream, request, deadline) {
                Ok(()) => return Ok(()),
                // The agent ended in the meantime; the next one is asked again.
                Err(error) => last = error.to_string(),
            },
            Err(_) if request.namespace == SYSTEM_NAMESPACE => return Ok(()),
            Err(error) => last = error.to_string(),
        }
        thread::sleep(PAUSE);
    }
    let seconds = ANSWER_TIMEOUT.as_secs();
    let text =
        format!("the network policies of {pod} are not in force: coracle-agent did not answer for {seconds} s: {last}");
    Err(Failure::new(TRY_AGAIN, text))
}

/// The sandbox is removed whatever happens here: the agent also learns of it from the API.
fn del(run: &Path, request: &Request) {
    let pod = NamespacedName { namespace: request.namespace.clone(), name: request.name.clone() };
    let _ = records::remove(run, &pod, &request.container);
    if let Ok(stream) = UnixStream::connect(run.join(SOCKET)) {
        let _ = ask(stream, request, Instant::now() + Duration::from_secs(1));
    }
}

fn ask(mut stream: UnixStream, request: &Request, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim() {
        "ok" => Ok(()),
        "" => Err(io::Error::other("it closed the connection")),
        other => Err(io::Error::other(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn input(run: &Path) -> Input {
        let text = format!(
            r#"{{"cniVersion":"0.4.0","name":"coracle","type":"coracle-policy","runDirectory":{:?},
                "prevResult":{{"ips":[{{"version":"4","address":"10.1.0.2/24"}},{{"address":"fd00::2/64"}}]}}}}"#,
            run.display().to_string()
        );
        serde_json::from_str(&text).unwrap()
    }

    fn pod(namespace: &'static str) -> impl Fn(&str) -> String {
        move |name| match name {
            "CNI_ARGS" => format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=p;K8S_POD_UID=u"),
            "CNI_CONTAINERID" => "c".to_owned(),
            _ => String::new(),
        }
    }

    #[test]
    fn the_result_of_the_plugin_before_is_passed_on_once_the_agent_has_answered() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        let agent = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            stream.write_all(b"ok\n").unwrap();
            serde_json::from_str::<Request>(&line).unwrap()
        });
        let result = perform("ADD", &input(directory.path()), pod("default")).unwrap();
        assert_eq!(result["ips"][0]["address"], "10.1.0.2/24");
        let request = agent.join().unwrap();
        assert_eq!((request.command, request.name.as_str(), request.uid.as_str()), (Command::Add, "p", "u"));
        assert_eq!(request.addresses, ["10.1.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]);
        assert_eq!(records::load(directory.path()).unwrap().len(), 1);
        perform("DEL", &input(directory.path()), pod("default")).unwrap();
        assert_eq!(records::load(directory.path()).unwrap().len(), 0);
    }

    #[test]
    fn pods_that_a_cluster_needs_to_boot_do_not_wait_for_an_agent_that_is_away() {
        let directory = tempfile::tempdir().unwrap();
        perform("ADD", &input(directory.path()), pod("kube-system")).unwrap();
        assert_eq!(records::load(directory.path()).unwrap().len(), 1, "the agent finds it when it starts");
    }

    #[test]
    fn a_chain_without_addresses_is_an_error_and_a_container_without_a_pod_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(perform("ADD", &input(directory.path()), |_| String::new()).is_ok());
        assert_eq!(records::load(directory.path()).unwrap().len(), 0);
        let alone = Input { prev_result: None, ..input(directory.path()) };
        assert_eq!(perform("ADD", &alone, pod("default")).unwrap_err().code, WRONG_CONFIGURATION);
        let versions = perform("VERSION", &alone, pod("default")).unwrap();
        assert!(versions["supportedVersions"].as_array().unwrap().contains(&json!("0.4.0")));
    }
}
