//! A cluster under test, with a home directory and a kubeconfig of its own.

use std::cell::RefCell;
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::cleanup;
use super::run::{LIMIT, Output, docker, ensure, eventually, run, start};

/// How long a command that creates a cluster may take, on a busy machine.
const CREATE_LIMIT: Duration = Duration::from_secs(400);
/// How long something in the cluster may take to come about.
pub const EVENTUALLY_TIMEOUT: Duration = Duration::from_secs(90);
/// The mode of the kubeconfig that is there before: a group may read it.
pub const KUBECONFIG_MODE: u32 = 0o640;
/// An entry of someone else, which must survive everything.
pub const FOREIGN: &str = "apiVersion: v1
kind: Config
preferences: {}
# somebody else's
clusters:
- name: foreign
  cluster: {server: \"https://foreign.example:6443\"}
contexts:
- name: foreign
  context: {cluster: foreign, user: foreign}
current-context: foreign
users:
- name: foreign
  user: {token: abc}
";

/// A cluster under test.
pub struct Cluster {
    pub name: String,
    pub home: PathBuf,
    /// Variables that every coracle command gets.
    pub environment: Vec<(String, String)>,
    /// What `create` said.
    pub said: RefCell<String>,
}

impl Cluster {
    /// A cluster that is not created yet. Whatever happens, the end of the program removes it.
    pub fn new(group: &str) -> Result<Self, String> {
        let name = format!("{}{group}-{}", cleanup::PREFIX, std::process::id());
        let home = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(home.join(".kube")).map_err(|error| error.to_string())?;
        cleanup::register(&name, &home);
        let cluster = Self { name, home, environment: Vec::new(), said: RefCell::default() };
        std::fs::write(cluster.kubeconfig(), FOREIGN).map_err(|error| error.to_string())?;
        let mode = Permissions::from_mode(KUBECONFIG_MODE);
        std::fs::set_permissions(cluster.kubeconfig(), mode).map_err(|error| error.to_string())?;
        Ok(cluster)
    }

    /// The same cluster, for someone with a home directory and a kubeconfig of their own.
    pub fn beside(&self, name: &str) -> Result<Self, String> {
        let home = self.home.join(name);
        std::fs::create_dir_all(home.join(".kube")).map_err(|error| error.to_string())?;
        let own =
            Self { name: self.name.clone(), home, environment: self.environment.clone(), said: RefCell::default() };
        std::fs::copy(self.kubeconfig(), own.kubeconfig()).map_err(|error| error.to_string())?;
        Ok(own)
    }

    /// The same with a kubeconfig that leads to this namespace.
    pub fn in_namespace(&self, namespace: &str) -> Result<Self, String> {
        let own = self.beside(namespace)?;
        own.kubectl(&["config", "set-context", "--current", &format!("--namespace={namespace}")])?;
        let found = own.kubectl_output(&["create", "namespace", namespace])?;
        ensure(found.code == 0 || found.stderr.contains("AlreadyExists"), || found.told())?;
        Ok(own)
    }

    /// The kubeconfig of this test.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.join("kubeconfig")
    }

    /// A file in this test's home directory.
    pub fn write(&self, name: &str, content: &str) -> Result<String, String> {
        let path = self.home.join(name);
        std::fs::write(&path, content).map_err(|error| error.to_string())?;
        Ok(path.display().to_string())
    }

    /// The name of the first control plane's container.
    pub fn node(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    fn prepare(&self, command: &mut Command) {
        // Where the user keeps it: HOME is another one here.
        if self.home.join(".docker").exists() {
            command.env_remove("DOCKER_CONFIG");
        } else if let Some(home) = std::env::home_dir().filter(|_| std::env::var_os("DOCKER_CONFIG").is_none()) {
            command.env("DOCKER_CONFIG", home.join(".docker"));
        }
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"] {
            command.env_remove(name);
        }
        command.env("HOME", &self.home).env("KUBECONFIG", self.kubeconfig()).env_remove("XDG_CACHE_HOME");
    }

    /// The real binary, with this cluster's name in the environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(super::coracle()), arguments)
    }

    /// The same with another binary.
    pub fn command_of(&self, coracle: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(coracle);
        command.args(arguments);
        self.prepare(&mut command);
        command.env("CORACLE_CLUSTER_NAME", &self.name);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A line of shell, with the environment of coracle and kubectl.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-ec", line]);
        self.prepare(&mut command);
        command.env("CORACLE_CLUSTER_NAME", &self.name);
        command
    }

    /// Runs coracle to its end, however that is.
    pub fn coracle_output(&self, arguments: &[&str]) -> Result<Output, String> {
        run(self.command(arguments), None, CREATE_LIMIT)
    }

    /// Runs coracle and returns its standard output.
    pub fn coracle(&self, arguments: &[&str]) -> Result<String, String> {
        self.coracle_output(arguments)?.ok()
    }

    /// Runs coracle and returns its standard output as JSON.
    pub fn coracle_json(&self, arguments: &[&str]) -> Result<Value, String> {
        json(&self.coracle(arguments)?)
    }

    /// Runs coracle with a file as standard input.
    pub fn coracle_reading(&self, arguments: &[&str], input: File) -> Result<String, String> {
        run(self.command(arguments), Some(input), CREATE_LIMIT)?.ok()
    }

    /// Creates the cluster from this configuration.
    pub fn create(&self, config: &str, more: &[&str]) -> Result<(), String> {
        self.create_with(Path::new(super::coracle()), config, more)
    }

    /// The same with another binary.
    pub fn create_with(&self, coracle: &Path, config: &str, more: &[&str]) -> Result<(), String> {
        let path = self.write("cluster.yaml", config)?;
        let mut arguments = vec!["create", "cluster", "--config", &path];
        arguments.extend(more);
        let image = std::env::var("CORACLE_TEST_IMAGE").ok();
        if let Some(image) = &image {
            arguments.extend(["--image", image]);
        }
        let output = run(self.command_of(coracle, &arguments), None, CREATE_LIMIT)?;
        self.said.replace(format!("{}{}", output.stdout, output.stderr));
        output.ok().map(drop)
    }

    /// kubectl as the user has it; coracle's copy where there is none.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join("kubectl").is_file()));
        let mut command = if found {
            Command::new("kubectl")
        } else {
            let mut command = self.command(&[]);
            command.arg("kubectl");
            command
        };
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    /// A script of bash as a user runs it: in a directory of its own, with `coracle` and `kubectl` at hand.
    pub fn script(&self, script: &str, directory: &Path) -> Result<Command, String> {
        let tools = self.home.join("bin");
        let text = |error: std::io::Error| error.to_string();
        if !tools.join("coracle").exists() {
            std::fs::create_dir_all(&tools).map_err(text)?;
            std::os::unix::fs::symlink(super::coracle(), tools.join("coracle")).map_err(text)?;
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        // kubectl is coracle's copy where there is no other.
        let script = format!(
            "command -v kubectl >/dev/null || kubectl() {{ coracle kubectl \"$@\"; }}\nset -euo pipefail\n{script}"
        );
        command.args(["-c", &script]).current_dir(directory);
        self.prepare(&mut command);
        command.env("PATH", format!("{}:{path}", tools.display())).env("CORACLE_CLUSTER_NAME", &self.name);
        Ok(command)
    }

    /// Runs kubectl to its end, however that is.
    pub fn kubectl_output(&self, arguments: &[&str]) -> Result<Output, String> {
        run(self.kubectl_command(arguments), None, LIMIT)
    }

    /// Runs kubectl and returns its standard output.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.kubectl_output(arguments)?.ok()
    }

    /// Runs kubectl and returns its standard output as JSON.
    pub fn kubectl_json(&self, arguments: &[&str]) -> Result<Value, String> {
        json(&self.kubectl(&[arguments, &["--output=json"]].concat())?)
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Result<(), String> {
        let path = self.write("manifest.yaml", manifest)?;
        self.kubectl(&["apply", "--filename", &path]).map(drop)
    }

    /// Waits until a Deployment has all its replicas.
    pub fn rolled_out(&self, deployment: &str) -> Result<(), String> {
        self.kubectl(&["rollout", "status", &format!("deployment/{deployment}"), "--timeout=100s"]).map(drop)
    }

    /// Waits until what is in a namespace has all its replicas.
    pub fn rolled_out_in(&self, namespace: &str, what: &str) -> Result<(), String> {
        self.kubectl(&["rollout", "status", what, "--namespace", namespace, "--timeout=100s"]).map(drop)
    }

    /// Runs a shell script in the first node.
    pub fn in_node(&self, script: &str) -> Result<String, String> {
        docker(&["exec", &self.node(), "bash", "-c", script])
    }

    /// Runs a script of Python in a pod, or in a pod of a Deployment.
    pub fn python(&self, pod: &str, script: &str) -> Result<String, String> {
        self.kubectl(&["exec", pod, "--", "python3", "-c", script])
    }

    /// The host port that leads to this port of the container.
    pub fn host_port(&self, container_port: u16) -> Result<String, String> {
        let all = docker(&["port", &self.node(), &container_port.to_string()])?;
        let address = all.lines().next().unwrap_or_default().to_owned();
        if address.is_empty() { Err(format!("port {container_port} is not published")) } else { Ok(address) }
    }

    /// The fixed address of the first node.
    pub fn address(&self) -> Result<String, String> {
        address_of(&self.node())
    }

    /// Waits until the API answers and the nodes are Ready.
    pub fn ready(&self, limit: Duration) -> Result<(), String> {
        eventually(limit, || self.coracle(&["status"])).map(drop)
    }

    /// Forwards a port of the host to a Service or a pod, and fetches through it. `port-forward` ends with the first
    /// connection that is refused, and a program may not listen yet when its pod is Ready: then it is started again.
    pub fn port_forward(&self, target: &str, port: u16, path: &str) -> Result<String, String> {
        eventually(Duration::from_secs(20), || self.port_forward_once(target, port, path))
    }

    fn port_forward_once(&self, target: &str, port: u16, path: &str) -> Result<String, String> {
        let forward = start(self.kubectl_command(&["port-forward", target, &format!(":{port}")]), None)?;
        let address = eventually(Duration::from_secs(30), || {
            let said = forward.said();
            let rest = said.split_once("Forwarding from ").map(|(_, rest)| rest.to_owned());
            let line = rest.ok_or_else(|| format!("port-forward said `{said}`"))?;
            line.split_once(" -> ").map(|(address, _)| address.to_owned()).ok_or(line)
        })?;
        fetch(&format!("http://{address}{path}"))
            .map_err(|error| format!("{error}; port-forward said `{}`", forward.said()))
    }
}

/// The fixed address of a node, as its label says.
pub fn address_of(node: &str) -> Result<String, String> {
    let format = "{{index .Config.Labels \"dev.coracle.address\"}}";
    Ok(docker(&["inspect", "--format", format, node])?.trim().to_owned())
}

/// A text as JSON.
pub fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("this is not JSON ({error}): {text}"))
}

/// `GET`s an `http://address:port/path` and returns the body of a 200.
pub fn fetch(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` is not an http URL"))?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let text = |error: std::io::Error| format!("{url}: {error}");
    let parsed = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let mut stream = TcpStream::connect_timeout(&parsed, Duration::from_secs(5)).map_err(text)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(text)?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{url} answered `{answer}`"))?;
    if head.lines().next().is_some_and(|line| line.contains(" 200")) {
        Ok(body.to_owned())
    } else {
        Err(format!("{url} answered `{head}`"))
    }
}

/// Waits until the page answers as the sample does.
pub fn answers(url: &str, limit: Duration) -> Result<String, String> {
    eventually(limit, || {
        let page = fetch(url.trim())?;
        if page.contains("Hello, world!") { Ok(page) } else { Err(format!("{url} answered `{page}`")) }
    })
}
