//! `install.sh` on a machine that is made of a few directories: nothing real is installed, fetched from outside or started.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use sha2::{Digest, Sha256};

use crate::sources::root;

/// Programs of the host that the script may use; everything else is missing or fake.
const HOST_PROGRAMS: &[&str] = &[
    "bash",
    "cat",
    "chmod",
    "cmp",
    "curl",
    "dirname",
    "env",
    "grep",
    "gzip",
    "head",
    "install",
    "mkdir",
    "mktemp",
    "mv",
    "nice",
    "nohup",
    "setsid",
    "rm",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "tail",
    "sort",
    "tar",
    "timeout",
    "touch",
];

/// Prints a version as rustc and Go do, and nothing else.
const RUSTC: &str = "#!/bin/sh\necho 'rustc 1.95.0 (f2d3ce0bd 2026-03-21)'\n";
const GO: &str = "#!/bin/sh\necho 'go version go1.26.8 linux/amd64'\n";
const OLD_RUSTC: &str = "#!/bin/sh\necho 'rustc 1.63.0'\n";
const OLD_GO: &str = "#!/bin/sh\necho 'go version go1.19.8 linux/amd64'\n";

/// Builds a coracle that notes how it is called and knows the clusters that it made.
const CARGO: &str = r#"#!/bin/sh
mkdir -p "$CARGO_TARGET_DIR/release"
cat > "$CARGO_TARGET_DIR/release/coracle" <<'END'
#!/bin/sh
echo "$*" >> "$HOME/calls"
case "$1 $2" in
    "create cluster") echo "$4" >> "$HOME/clusters" ;;
    "get clusters")
        [ "$3 $4" = "--output name" ] || { echo "NAME VERSION NODES" && exit 0; }
        cat "$HOME/clusters" 2>/dev/null ;;
esac
exit 0
END
"#;

/// What the script asked the server for, in order.
type Requests = Arc<Mutex<Vec<String>>>;

struct Machine {
    directory: tempfile::TempDir,
    requests: Requests,
    url: String,
}

impl Machine {
    /// A machine with an engine and everything but the toolchains.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let machine = Self { directory, requests: Requests::default(), url: String::new() };
        for name in ["bin", "home", "www", "target", "installed"] {
            fs::create_dir(machine.path(name)).unwrap();
        }
        for program in HOST_PROGRAMS {
            let found = ["/bin", "/usr/bin"].map(|directory| Path::new(directory).join(program));
            let found = found.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{program} is not installed"));
            symlink(found, machine.path("bin").join(program)).unwrap();
        }
        for program in ["cc", "docker", "dockerd", "git", "mmdebstrap"] {
            machine.program(program, "#!/bin/sh\nexit 0\n");
        }
        // Another user than root, so that nothing outside could be written by mistake either.
        machine.program("id", "#!/bin/sh\necho 1000\n");
        machine.program("uname", "#!/bin/sh\n[ \"$1\" = -s ] && echo Linux || echo x86_64\n");
        machine
    }

    /// The same with a server that has both toolchains, with the right checksums.
    fn with_server() -> Self {
        let mut machine = Self::new();
        let www = machine.path("www");
        let rustup = www.join("x86_64-unknown-linux-gnu/rustup-init");
        fs::create_dir(rustup.parent().unwrap()).unwrap();
        fs::write(&rustup, format!(
            "#!/bin/sh\nmkdir -p \"$HOME/.cargo/bin\" && cd \"$HOME/.cargo/bin\" || exit 1\n\
             cat > rustc <<'END_RUSTC'\n{RUSTC}END_RUSTC\ncat > cargo <<'END_CARGO'\n{CARGO}chmod +x \"$CARGO_TARGET_DIR/release/coracle\"\nEND_CARGO\n\
             chmod +x rustc cargo\n"
        )).unwrap();
        let go = machine.path("go/bin");
        fs::create_dir_all(&go).unwrap();
        script(&go.join("go"), GO);
        let archive = www.join("go1.26.8.linux-amd64.tar.gz");
        let tar = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(machine.path("")).arg("go").status();
        assert!(tar.unwrap().success());
        for file in [rustup, archive] {
            let sum = format!("{:x}", Sha256::digest(fs::read(&file).unwrap()));
            fs::write(format!("{}.sha256", file.display()), format!("{sum}  {}\n", file.display())).unwrap();
        }
        machine.url = serve(www, Arc::clone(&machine.requests));
        machine
    }

    /// The same with both toolchains in PATH.
    fn with_toolchains() -> Self {
        let machine = Self::new();
        machine.program("rustc", RUSTC);
        machine.program("go", GO);
        machine.program("cargo", &format!("{CARGO}chmod +x \"$CARGO_TARGET_DIR/release/coracle\"\n"));
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        script(&self.path("bin").join(name), text);
    }

    fn install(&self, arguments: &[&str]) -> Run {
        self.install_with(arguments, &[])
    }

    fn install_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
        // A closed port where there is no server.
        let url = if self.url.is_empty() { "http://127.0.0.1:9" } else { &self.url };
        let output = Command::new(self.path("bin").join("bash"))
            .arg(root().join("install.sh"))
            .args(arguments)
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .env("CARGO_TARGET_DIR", self.path("target"))
            .env("CORACLE_INSTALL_DIR", self.path("installed"))
            .env("CORACLE_GO_ROOT", self.path("none"))
            .env("CORACLE_RUSTUP_URL", url)
            .env("CORACLE_GO_URL", url)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output();
        Run::new(&output.unwrap())
    }

    /// How coracle was called.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("home/calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

struct Run {
    code: Option<i32>,
    text: String,
}

impl Run {
    fn new(output: &Output) -> Self {
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Self { code: output.status.code(), text }
    }

    #[track_caller]
    fn succeeds(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.text);
        self.text
    }

    #[track_caller]
    fn fails_with(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "{word} is not in: {}", self.text);
        }
    }
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Serves the files of a directory until the test process ends; returns the address.
fn serve(directory: PathBuf, requests: Requests) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &directory, &requests);
        }
    });
    url
}

fn answer(mut stream: TcpStream, directory: &Path, requests: &Requests) {
    let lines: Vec<String> =
        BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let path = lines[0].split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    let (status, body) = match fs::read(directory.join(&path)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    requests.lock().unwrap().push(path);
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
    stream.write_all(&body).unwrap();
}

/// Every file below a directory with its bytes.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn help_and_mistakes_change_nothing() {
    let machine = Machine::new();
    let help = machine.install(&["--help"]).succeeds();
    for option in ["--create", "--test", "--yes", "--help", "CORACLE_INSTALL_DIR"] {
        assert!(help.contains(option), "{option}");
    }
    machine.install(&["--creat"]).fails_with(2, &["unknown option --creat", "Usage:"]);
    assert!(files(&machine.path("home")).is_empty());
}

#[test]
fn without_a_terminal_and_without_yes_it_says_what_it_would_do() {
    let machine = Machine::with_server();
    machine.install(&["--create"]).fails_with(1, &["install Rust to", "install Go 1.26.8 to", "--yes"]);
    assert!(files(&machine.path("home")).is_empty());
    assert!(machine.requests().is_empty());
}

#[test]
fn toolchains_are_fetched_once_and_the_second_run_changes_nothing() {
    let machine = Machine::with_server();
    // Old ones in PATH are passed over and stay as they are.
    machine.program("rustc", OLD_RUSTC);
    machine.program("go", OLD_GO);
    let text = machine.install(&["--yes"]).succeeds();
    assert!(text.contains("Installed") && text.contains("coracle create cluster"), "{text}");
    assert_eq!(machine.calls(), ["build node-image"]);
    assert_eq!(machine.requests().len(), 4, "{:?}", machine.requests());
    let before = files(&machine.path("installed"));
    assert!(!machine.install(&[]).succeeds().contains("Installed"));
    assert_eq!(machine.requests().len(), 4);
    assert_eq!(files(&machine.path("installed")), before);
}

#[test]
fn a_download_with_another_checksum_is_not_used() {
    for file in ["x86_64-unknown-linux-gnu/rustup-init", "go1.26.8.linux-amd64.tar.gz"] {
        let machine = Machine::with_server();
        fs::write(machine.path("www").join(format!("{file}.sha256")), "0".repeat(64)).unwrap();
        machine.install(&["--yes"]).fails_with(1, &["is damaged", file]);
        assert!(!machine.path("home/.local").exists());
        assert!(machine.calls().is_empty());
    }
}

#[test]
fn a_toolchain_that_cannot_be_fetched_is_named() {
    let machine = Machine::new();
    machine.install(&["--yes"]).fails_with(1, &["Rust 1.89 is needed", "https://rustup.rs"]);
    let machine = Machine::with_toolchains();
    fs::remove_file(machine.path("bin/go")).unwrap();
    machine.install(&["--yes"]).fails_with(1, &["Go 1.26 is needed", "https://go.dev/doc/install"]);
}

#[test]
fn what_is_there_is_used_and_a_cluster_is_created_once() {
    let machine = Machine::with_toolchains();
    let text = machine.install(&["--create"]).succeeds();
    assert!(!text.contains("To do before"), "{text}");
    assert!(text.contains("kubectl get nodes") && text.contains("samples/hello-world"), "{text}");
    assert!(machine.install(&["--create"]).succeeds().contains("already exists"));
    let created = machine.calls().iter().filter(|call| *call == "create cluster --name coracle").count();
    assert_eq!(created, 1, "{:?}", machine.calls());
}

#[test]
fn what_is_compiled_beside_cargo_is_what_the_node_image_needs() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let settings = read("src/node_image/programs.rs");
    let flags = settings.split_once("(\"GOFLAGS\", \"").unwrap().1.split_once('"').unwrap().0;
    for path in ["install.sh", "tests/kubernetes-program/run"] {
        assert!(read(path).contains(&format!("GOFLAGS=\"{flags}\"")), "Go keeps what it compiled by its flags: {path}");
    }
}

#[test]
fn missing_packages_are_installed_where_there_is_apt_and_named_elsewhere() {
    let machine = Machine::with_toolchains();
    for program in ["cc", "mmdebstrap", "dockerd"] {
        fs::remove_file(machine.path("bin").join(program)).unwrap();
    }
    machine.program("docker", "#!/bin/sh\nexit 1\n");
    machine
        .install(&["--yes"])
        .fails_with(1, &["not installed: cc, Docker Engine", "https://docs.docker.com/engine/install/"]);
    // This one puts everything in place, the engine included.
    machine.program("sudo", "#!/bin/sh\nexec \"$@\"\n");
    machine.program(
        "apt-get",
        "#!/bin/sh\n[ \"$1\" = install ] || exit 0\necho \"$*\" > \"$HOME/packages\"\n\
         printf '#!/bin/sh\\nexit 0\\n' > \"${0%/*}/docker\"\n",
    );
    machine.install(&["--yes"]).succeeds();
    let packages = fs::read_to_string(machine.path("home/packages")).unwrap();
    for package in ["gcc", "libc6-dev", "mmdebstrap", "docker.io"] {
        assert!(packages.contains(package), "{packages}");
    }
}

#[test]
fn another_engine_than_the_usual_one_is_left_to_its_owner() {
    let machine = Machine::with_toolchains();
    machine.program("docker", "#!/bin/sh\nexit 1\n");
    machine.program("dockerd", "#!/bin/sh\ntouch \"$HOME/started\"\n");
    let run = machine.install_with(&["--yes"], &[("DOCKER_HOST", "tcp://10.9.9.9:1")]);
    run.fails_with(1, &["no Docker engine answers at DOCKER_HOST=tcp://10.9.9.9:1"]);
    machine.program("docker", "#!/bin/sh\n[ \"$1\" = context ] && echo remote && exit 0\nexit 1\n");
    machine.install(&["--yes"]).fails_with(1, &["in the Docker context remote"]);
    assert!(!machine.path("home/started").exists());
}

#[test]
fn an_engine_that_does_not_run_is_started_and_awaited() {
    let machine = Machine::with_toolchains();
    machine.program("sudo", "#!/bin/sh\nexec \"$@\"\n");
    machine.program("docker", "#!/bin/sh\n[ -e \"$HOME/started\" ]\n");
    for program in ["dockerd", "systemctl"] {
        machine.program(program, "#!/bin/sh\nsleep 0.2\ntouch \"$HOME/started\"\n");
    }
    machine.install(&[]).fails_with(1, &["start the Docker engine", "--yes"]);
    assert!(!machine.path("home/started").exists());
    assert!(machine.install(&["--yes"]).succeeds().contains("Starting the Docker engine"));
}

#[test]
fn a_user_without_permission_is_told_and_nothing_is_started() {
    let machine = Machine::with_toolchains();
    machine.program("docker", "#!/bin/sh\necho 'permission denied while trying to connect' >&2\nexit 1\n");
    machine.program("dockerd", "#!/bin/sh\ntouch \"$HOME/started\"\n");
    machine.install(&["--yes"]).fails_with(1, &["no permission to use the Docker engine", "usermod"]);
    assert!(!machine.path("home/started").exists());
}
