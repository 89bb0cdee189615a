//! `coracle config`, where no engine is.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::command_line::{Said, coracle};
use crate::sources::read;

const HEAD: &str = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n";

/// A directory with files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// Runs `coracle config`; `@NAME` is a file of the directory.
fn config(directory: &Path, arguments: &[&str]) -> Said {
    let path = |argument: &&str| match argument.strip_prefix('@') {
        Some(name) => directory.join(name).display().to_string(),
        None => (*argument).to_owned(),
    };
    coracle(["config".to_owned()].into_iter().chain(arguments.iter().map(path)))
}

#[test]
fn validate_tells_every_problem_of_every_file_and_ends_with_2() {
    let good = format!("{HEAD}nodes: [{{role: control-plane}}, {{role: worker}}]\n");
    let (bad, worse) = (format!("{HEAD}nodez: []\n"), format!("{HEAD}nodes:\n- role: boss\nname: A B\n"));
    let kind = read("tests/kind-files/mistakes.yaml");
    let files = [("good.yaml", good.as_str()), ("bad.yaml", &bad), ("worse.yaml", &worse), ("kind.yaml", &kind)];
    let directory = directory(&files);
    let said = config(directory.path(), &["validate", "@good.yaml", "@bad.yaml", "@worse.yaml", "@none.yaml"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{}", said.stderr);
    for part in [
        "good.yaml` is valid: cluster `coracle`, 1 control plane, 1 worker\n",
        "error[config-invalid]: 3 of 4 configurations have 4 problems",
        "bad.yaml:3:1: unknown field `nodez`; did you mean `nodes`?",
        "worse.yaml:4:9: ",
        "worse.yaml:5:7: ",
        "none.yaml: cannot read",
    ] {
        assert!(said.stderr.contains(part), "`{part}` is missing in\n{}", said.stderr);
    }
    let said = config(directory.path(), &["validate", "@kind.yaml"]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("kind.yaml` has 6 problems"), "{}", said.stderr);
    let said = config(directory.path(), &["validate", "@good.yaml"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{}", said.stderr);
    assert_eq!(config(directory.path(), &["validate"]).code, 2);
}

#[test]
fn validate_writes_json_for_programs() {
    let bad = format!(
        "{HEAD}kubelet: {{maxPods: 20}}\nnodes: [{{role: control-plane, extraMounts: [{{hostPath: gone, containerPath: /a}}]}}]\n"
    );
    let directory = directory(&[("a.yaml", &bad), ("b.yaml", "kind: Cluster\n")]);
    let said = config(directory.path(), &["validate", "-o", "json", "@a.yaml", "@b.yaml"]);
    assert_eq!(said.code, 2, "{}", said.stderr);
    let told: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(told["valid"], false);
    let [first, second] = told["files"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!(
        (&first["valid"], &first["controlPlanes"], &first["problems"]),
        (&true.into(), &1.into(), &Value::Array(Vec::new()))
    );
    // What only this machine lacks, and what no engine could tell, is no mistake in the file.
    let warnings = first["warnings"].to_string();
    assert!(warnings.contains("gone` does not exist on this host"), "{warnings}");
    assert!(warnings.contains("the fields of `kubelet` are not checked: no engine answers"), "{warnings}");
    assert_eq!((&second["valid"], &second["name"]), (&false.into(), &Value::Null));
    let problem = &second["problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&1.into(), &1.into()), "{problem}");
    assert!(problem["message"].as_str().unwrap().contains("apiVersion"), "{problem}");
    let said = config(directory.path(), &["validate", "-o", "json", "@a.yaml"]);
    assert_eq!(serde_json::from_str::<Value>(&said.stdout).unwrap()["valid"], true);
    assert_eq!(said.code, 0);
}

#[test]
fn view_prints_what_validates_and_says_the_same() {
    let text = format!("{HEAD}name: dev\nnodes: [{{role: control-plane}}, {{role: worker, cpus: 1.5}}]\n");
    let directory = directory(&[("c.yaml", &text)]);
    let said = config(directory.path(), &["view", "@c.yaml", "--workers", "2", "--image", "coracle/node:v1.36.3"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    for line in ["name: dev", "image: coracle/node:v1.36.3", "durability: safe", "  podSubnet: 10.244.0.0/16"] {
        assert!(said.stdout.lines().any(|written| written == line), "`{line}` is missing in\n{}", said.stdout);
    }
    std::fs::write(directory.path().join("viewed.yaml"), &said.stdout).unwrap();
    assert_eq!(config(directory.path(), &["validate", "@viewed.yaml"]).code, 0);
    let again = config(directory.path(), &["view", "@viewed.yaml"]);
    assert_eq!(again.stdout, said.stdout);
    let json = config(directory.path(), &["view", "-o", "json", "@viewed.yaml"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json, crate::schema::json_of(&said.stdout));
    assert!(config(directory.path(), &["view"]).stdout.contains("name: coracle\n"), "the default cluster");
    assert_eq!(config(directory.path(), &["view", "--control-planes", "0"]).code, 2);
}

#[test]
fn convert_writes_a_file_that_validates_and_says_what_is_missing() {
    let kind = read("tests/kind-files/private-registry.yaml");
    let directory = directory(&[("kind.yaml", &kind), ("ours.yaml", HEAD)]);
    let said = config(directory.path(), &["convert", "@kind.yaml"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("run `docker login registry.test:5443`"), "{}", said.stderr);
    assert!(said.stderr.contains("keep the new file in"), "{}", said.stderr);
    std::fs::write(directory.path().join("converted.yaml"), &said.stdout).unwrap();
    let checked = config(directory.path(), &["validate", "@converted.yaml"]);
    assert_eq!(checked.code, 0, "{}\n{}", said.stdout, checked.stderr);
    let started = ["minikube", "start", "--nodes=2", "--cni", "calico", "--memory=2g"];
    let said = config(directory.path(), &[&["convert", "--"][..], &started].concat());
    assert!(said.code == 0 && said.stderr.contains("`--cni` is left out: install calico"), "{}", said.stderr);
    std::fs::write(directory.path().join("converted.yaml"), &said.stdout).unwrap();
    assert_eq!(config(directory.path(), &["validate", "@converted.yaml"]).code, 0, "{}", said.stdout);
    let said = config(directory.path(), &["convert", "--", "minikube", "stop"]);
    assert!(said.code == 2 && said.stderr.contains("only `minikube start`"), "{}", said.stderr);
    let said = config(directory.path(), &["convert", "@ours.yaml"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{}", said.stderr);
    assert!(said.stderr.contains("not a configuration file of kind"), "{}", said.stderr);
}

#[test]
fn init_asks_nothing_without_a_terminal_and_overwrites_nothing() {
    let directory = directory(&[]);
    let flags = ["--name", "dev", "--workers", "2", "--addon", "ingress", "--port", "8080:80", "--registry"];
    let said =
        config(directory.path(), &[&["init", "@new.yaml", "--kubernetes-version", "1.36.3"][..], &flags].concat());
    assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{}", said.stderr);
    assert!(said.stderr.contains("coracle create cluster --config"), "{}", said.stderr);
    let text = std::fs::read_to_string(directory.path().join("new.yaml")).unwrap();
    let checked = config(directory.path(), &["validate", "@new.yaml"]);
    assert!(
        checked.code == 0 && checked.stderr.contains("cluster `dev`, 1 control plane, 2 workers"),
        "{}",
        checked.stderr
    );
    for part in ["image: coracle/node:v1.36.3\n", "hostPort: 8080\n", "- ingress\n", "\nregistry: true\n", "\n# "] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
    let again = config(directory.path(), &["init", "@new.yaml"]);
    assert!(again.code == 2 && again.stderr.contains("--force"), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(directory.path().join("new.yaml")).unwrap(), text);
    assert_eq!(config(directory.path(), &["init", "@new.yaml", "--force"]).code, 0);
    assert_ne!(std::fs::read_to_string(directory.path().join("new.yaml")).unwrap(), text);
    let printed = config(directory.path(), &["init", "-", "--name", "dev"]);
    assert!(printed.code == 0 && printed.stdout.contains("\nname: dev\n"), "{}", printed.stderr);
    for wrong in
        [&["--control-planes", "0"][..], &["--name", "A B"], &["--addon", "x"], &["--port", "x"], &["--workers", "100"]]
    {
        let said = config(directory.path(), &[&["init", "@other.yaml"][..], wrong].concat());
        assert_eq!(said.code, 2, "{wrong:?}: {}", said.stderr);
    }
    assert!(!directory.path().join("other.yaml").exists());
}

/// A command on a terminal, which util-linux's `script` makes.
struct Typed {
    child: Child,
    shown: Arc<Mutex<String>>,
    /// How much of it was waited for already.
    seen: usize,
}

impl Typed {
    fn start(command: &str, home: &Path) -> Self {
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", command, "/dev/null"]);
        script.env_remove("CI").env_remove("NO_COLOR").env("TERM", "xterm").env("HOME", home);
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (shown, mut output) = (Arc::new(Mutex::new(String::new())), child.stdout.take().unwrap());
        let all = shown.clone();
        std::thread::spawn(move || {
            let mut part = [0; 1024];
            while let Ok(count @ 1..) = output.read(&mut part) {
                all.lock().unwrap().push_str(&String::from_utf8_lossy(&part[..count]));
            }
        });
        Self { child, shown, seen: 0 }
    }

    /// Types an answer once the question is there.
    fn answer(&mut self, question: &str, keys: &str) {
        let began = Instant::now();
        loop {
            let shown = self.shown.lock().unwrap().clone();
            if let Some(at) = shown.get(self.seen..).and_then(|new| new.find(question)) {
                self.seen += at + question.len();
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "`{question}` was not asked: {shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let keyboard = self.child.stdin.as_mut().unwrap();
        keyboard.write_all(keys.as_bytes()).unwrap();
        keyboard.flush().unwrap();
    }

    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.shown.lock().unwrap().clone())
    }
}

#[test]
fn init_asks_on_a_terminal() {
    let directory = directory(&[]);
    let path = directory.path().join("asked.yaml").display().to_string();
    let command = format!("{} config init {path}", env!("CARGO_BIN_EXE_coracle"));
    let mut typed = Typed::start(&command, directory.path());
    typed.answer("Name of the cluster", "A B\r");
    // What is no name is asked for again.
    for (question, keys) in [
        ("Name of the cluster", "\u{8}\u{8}\u{8}shop\r"),
        ("Control planes", "\r"),
        ("Workers", "2\r"),
        ("Add-ons", " \r"),
        ("Ports of this host", "8080:30080\r"),
        ("registry at localhost:5001", "y"),
        ("Kubernetes version", "\r"),
    ] {
        typed.answer(question, keys);
    }
    let (code, said) = typed.end();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(code, Some(0), "{said}");
    for part in ["name: shop\n", "hostPort: 8080\n", "\naddons:\n", "\nregistry: true\n"] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}\n{said}");
    }
    assert_eq!(text.matches("role: worker").count(), 2, "{text}");
    assert!(config(directory.path(), &["validate", "@asked.yaml"]).code == 0, "{text}");
    // A file that exists is asked about first, and stays unless the answer is yes.
    let mut typed = Typed::start(&command, directory.path());
    typed.answer("Replace it?", "n");
    let (code, said) = typed.end();
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}
