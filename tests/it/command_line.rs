//! The command as it is run: exit codes, and what goes to which stream.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What a command said, and how it ended.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs coracle with no settings but these; its home is empty.
fn coracle_with<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>, environment: &[(&str, &str)]) -> Said {
    let home = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_coracle"))
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .env("COLUMNS", "100")
        .envs(environment.iter().copied())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Said {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs coracle where no engine is.
pub(crate) fn coracle<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Said {
    coracle_with(arguments, &[("DOCKER_HOST", "unix:///nonexistent/docker.sock")])
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let wrong: &[&[&str]] = &[
        &["creat", "cluster"],
        &["create", "cluster", "--worker", "2"],
        &["create", "cluster", "--wait", "soon"],
        &["create", "cluster", "--name", "Not A Name"],
        &["create", "cluster", "-o", "yaml"],
        &["delete", "clusters"],
        &["completion", "tcsh"],
    ];
    for arguments in wrong {
        let said = coracle(*arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.stderr);
        assert_eq!(said.stdout, "", "{arguments:?}");
        assert!(said.stderr.starts_with("error"), "{arguments:?}: {}", said.stderr);
    }
}

#[test]
fn a_wrong_configuration_ends_with_2_and_shows_every_mistake() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("cluster.yaml");
    std::fs::write(&path, "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnetworkin: {}\nnodes:\n  - role: boss\n")
        .unwrap();
    let said = coracle([OsStr::new("create"), OsStr::new("cluster"), OsStr::new("--config"), path.as_os_str()]);
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert_eq!(said.stdout, "");
    for part in ["config-invalid", "cluster.yaml:3:1", "networking", "cluster.yaml:5:11"] {
        assert!(said.stderr.contains(part), "`{part}` is missing in {}", said.stderr);
    }
}

/// An engine that answers every request with this status.
fn engine_that_says(status: &'static str) -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, status));
        }
    });
    (directory, format!("unix://{}", socket.display()))
}

fn answer(mut stream: std::os::unix::net::UnixStream, status: &str) {
    let mut request = [0; 4096];
    while std::io::Read::read(&mut stream, &mut request).is_ok_and(|length| length > 0) {
        // It says its version, and nothing else.
        let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
        let is_greeting = ["/version", "/_ping"].iter().any(|path| line.contains(path));
        let (status, body) = if is_greeting {
            ("200 OK", r#"{"ApiVersion":"1.47","Version":"28.0.0","Os":"linux","Arch":"amd64"}"#)
        } else {
            (status, r#"{"message":"the database is locked"}"#)
        };
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn an_engine_that_only_answers_with_errors_is_told_in_its_own_words() {
    let (_directory, address) = engine_that_says("500 Internal Server Error");
    let said = coracle_with(["get", "clusters"], &[("DOCKER_HOST", &address)]);
    assert_eq!(said.code, 4, "{}", said.stderr);
    assert!(said.stderr.starts_with("error[engine-failed]"), "{}", said.stderr);
    assert!(said.stderr.contains("the database is locked") && said.stderr.contains("hint: "), "{}", said.stderr);
}

#[test]
fn without_an_engine_commands_end_with_4_and_say_what_to_do() {
    let commands: &[&[&str]] = &[
        &["create", "cluster"],
        &["create", "cluster", "--dry-run"],
        &["delete", "cluster"],
        &["get", "clusters"],
        &["status"],
        &["url", "hello-world"],
        &["kubectl", "get", "nodes"],
    ];
    for arguments in commands {
        let said = coracle(*arguments);
        assert_eq!(said.code, 4, "{arguments:?}: {}", said.stderr);
        assert_eq!(said.stdout, "", "{arguments:?}");
        assert!(said.stderr.contains("engine-unreachable"), "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains("hint"), "{arguments:?}: {}", said.stderr);
    }
}

#[test]
fn engines_over_ssh_are_refused() {
    let said = coracle_with(["get", "clusters"], &[("DOCKER_HOST", "ssh://user@host")]);
    assert_eq!(said.code, 4, "{}", said.stderr);
    assert!(said.stderr.contains("engine-unsupported") && said.stderr.contains("ssh"), "{}", said.stderr);
}

#[test]
fn results_go_to_stdout_and_nothing_else_does() {
    let said = coracle(["version"]);
    assert_eq!(said.stdout, format!("coracle {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let help = coracle(["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    let nothing = coracle(Vec::<&str>::new());
    assert_eq!((nothing.code, nothing.stdout.as_str()), (2, ""));
}

#[test]
fn json_errors_are_one_object_per_line_and_a_text_for_people() {
    for (arguments, code, id) in [
        (&["create", "cluster", "-o", "json"][..], 4, "engine-unreachable"),
        (&["create", "cluster", "-o", "json", "--no-such"], 2, "usage-invalid"),
        (&["get", "clusters", "-o", "json"], 4, "engine-unreachable"),
        (&["status", "--output=json"], 4, "engine-unreachable"),
        (&["node", "list", "-o", "json", "--no-such"], 2, "usage-invalid"),
    ] {
        let said = coracle(arguments);
        assert_eq!(said.code, code, "{}", said.stderr);
        let events: Vec<serde_json::Value> = said
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        let last = events.last().unwrap_or_else(|| panic!("no event: {}", said.stderr));
        assert_eq!((&last["event"], &last["id"], &last["exitCode"]), (&"error".into(), &id.into(), &code.into()));
        assert!(events.iter().all(|event| event["time"].is_string()), "{}", said.stdout);
        assert!(said.stderr.contains("error"), "{}", said.stderr);
    }
}

#[test]
fn a_file_that_does_not_exist_is_wrong_usage() {
    for arguments in [&["create", "cluster", "--config", "/no/such.yaml"][..], &["create", "cluster", "-c", "/"]] {
        let said = coracle(arguments);
        assert_eq!(said.code, 2, "{}", said.stderr);
        assert!(said.stderr.contains("error[usage-invalid]") && said.stderr.contains("hint: "), "{}", said.stderr);
    }
}

#[test]
fn names_are_understood_as_kind_and_k3d_have_them() {
    for arguments in
        [&["create", "cluster", "dev", "-v", "1"][..], &["delete", "cluster", "dev"], &["delete", "cluster", "--all"]]
    {
        assert_eq!(coracle(arguments).code, 4, "{arguments:?}: the engine is asked for");
    }
    for arguments in [
        &["create", "cluster", "a", "--name", "b"][..],
        &["delete", "cluster", "a", "--all"],
        &["create", "cluster", "-o", "yaml"],
    ] {
        assert_eq!(coracle(arguments).code, 2, "{arguments:?}");
    }
    let nowhere = ("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let said = coracle_with(["status"], &[("KIND_CLUSTER_NAME", "ci"), nowhere]);
    assert!(said.stderr.contains("warning: KIND_CLUSTER_NAME is `ci`"), "{}", said.stderr);
    let said = coracle_with(["create", "cluster", "ci"], &[("CORACLE_CLUSTER_NAME", "other"), nowhere]);
    assert_eq!(said.code, 4, "a name that is typed counts more than the environment's: {}", said.stderr);
}

#[test]
fn without_a_terminal_there_is_no_colour() {
    for environment in [&[][..], &[("NO_COLOR", "1")], &[("TERM", "xterm-256color"), ("NO_COLOR", "")]] {
        let said = coracle_with(["get", "clusters", "--output", "no-such"], environment);
        assert!(!said.stderr.contains('\x1b'), "{environment:?}: {:?}", said.stderr);
        let mut environment = environment.to_vec();
        environment.push(("DOCKER_HOST", "unix:///nonexistent/docker.sock"));
        let said = coracle_with(["create", "cluster"], &environment);
        assert!(!said.stderr.contains('\x1b'), "{environment:?}: {:?}", said.stderr);
    }
}

#[test]
fn the_completion_script_is_valid_bash() {
    let script = coracle(["completion", "bash"]);
    assert_eq!((script.code, script.stderr.as_str()), (0, ""));
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.stdout.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(coracle(["completion", shell]).stdout.contains("coracle"), "{shell}");
    }
}

/// What a real bash completes after `coracle`, without an engine.
fn completed(words: &[&str]) -> Vec<String> {
    const SCRIPT: &str = "source <(coracle completion bash); COMP_WORDS=(coracle \"$@\"); COMP_CWORD=$#; COMP_TYPE=9
        _clap_complete_coracle coracle \"${!#}\" coracle; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let directory = std::path::Path::new(env!("CARGO_BIN_EXE_coracle")).parent().unwrap();
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-c", SCRIPT, "bash"])
        .args(words)
        .env("PATH", path)
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_options_and_is_silent_without_an_engine() {
    assert_eq!(completed(&["unp"]), ["unpause"]);
    assert_eq!(completed(&["status", "--wat"]), ["--watch"]);
    assert_eq!(completed(&["addon", "enable", "metr"]), ["metrics-server"]);
    let after = completed(&["logs", "dev"]);
    assert!(after.iter().all(String::is_empty), "{after:?}");
}

#[test]
fn the_exit_code_of_a_signal_is_that_of_the_signal() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        // It reads its configuration from an input that does not end.
        let (reader, writer) = std::io::pipe().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["create", "cluster", "--config", "-"])
            .stdin(reader)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // As soon as it handles signals.
        let mask = || std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let handles = |text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
            // SIGINT is 2, SIGHUP 1, SIGTERM 15.
            u64::from_str_radix(line.trim(), 16).is_ok_and(|set| set & 0x4003 == 0x4003)
        };
        let began = std::time::Instant::now();
        while !handles(&mask()) && began.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(child.wait().unwrap().code(), Some(code), "SIG{signal}");
        drop(writer);
    }
}
