//! Loads images into clusters of coracle and kind in turns and prints how long it takes: `cargo bench --bench load -- --runs 5`.
//!
//! The image has 500 MB of noise in one layer and 1 MB in another one on top. Both tools have a cluster of the same size
//! and node image on the same engine. `kind` must be in the PATH; `--kind-config` says what it runs with.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of the lower and of the upper layer.
const LAYERS: [u64; 2] = [499_000_000, 1_000_000];
/// Name of both clusters and repository of the images.
const NAME: &str = "t-bench-load";
/// The registry of coracle's cluster, and its port on this host.
const REGISTRY: &str = "t-bench-load-registry";
const PORT: &str = "5777";

#[derive(Clone, Copy, PartialEq)]
enum Tool {
    Coracle,
    Kind,
}

/// How layers leave the engine.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// As the tool has it.
    Default,
    /// Through the engine's API only.
    Api,
    /// Pushed to a registry, and pulled by all nodes.
    Registry,
}

impl Way {
    const ALL: [Self; 3] = [Self::Default, Self::Api, Self::Registry];
}

struct Settings {
    runs: usize,
    image: String,
    coracle: PathBuf,
    kind_config: Option<PathBuf>,
    home: tempfile::TempDir,
}

type Result<T> = std::result::Result<T, String>;

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Runs a command to its end; a failure shows what it said.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(told)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn docker(arguments: &[&str]) -> Result<String> {
    run(Command::new("docker").args(arguments))
}

impl Tool {
    const BOTH: [Self; 2] = [Self::Coracle, Self::Kind];

    fn cluster(self) -> String {
        format!("{NAME}-{}", if self == Self::Coracle { "c" } else { "k" })
    }

    fn command(self, settings: &Settings) -> Command {
        let program = if self == Self::Coracle { settings.coracle.as_os_str() } else { "kind".as_ref() };
        let mut command = Command::new(program);
        command.env("KUBECONFIG", settings.home.path().join(self.cluster()));
        command
    }

    fn create(self, settings: &Settings, nodes: usize) -> Result<()> {
        let mut command = self.command(settings);
        command.args(["create", "cluster", "--name", &self.cluster(), "--image", &settings.image]);
        if self == Self::Coracle {
            command.args(["--workers", &(nodes - 1).to_string()]);
        } else {
            let base = settings.kind_config.as_ref().map(std::fs::read_to_string).transpose().map_err(told)?;
            let base = base.unwrap_or_else(|| "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n".to_owned());
            let workers = "- role: worker\n".repeat(nodes - 1);
            let path = settings.home.path().join("kind.yaml");
            std::fs::write(&path, format!("{base}nodes:\n- role: control-plane\n{workers}")).map_err(told)?;
            command.args(["--wait", "180s", "--config"]).arg(path);
        }
        run(&mut command).map(drop)
    }

    fn delete(self, settings: &Settings) -> Result<()> {
        run(self.command(settings).args(["delete", "cluster", "--name", &self.cluster()])).map(drop)
    }

    fn nodes(self) -> Result<Vec<String>> {
        let filter = format!("name=^{}-", self.cluster());
        Ok(docker(&["ps", "--filter", &filter, "--format", "{{.Names}}"])?.lines().map(str::to_owned).collect())
    }

    /// Loads an image; seconds, and the most memory that the command had, in MiB.
    fn load(self, settings: &Settings, image: &str, way: Way) -> Result<(f64, f64)> {
        let mut command = self.command(settings);
        let began = Instant::now();
        if way == Way::Registry {
            let pushed = format!("localhost:{PORT}/{image}");
            docker(&["tag", image, &pushed])?;
            docker(&["push", "--quiet", &pushed])?;
            command.args(["image", "pull", &pushed, "--name", &self.cluster()]);
        } else {
            command.args(["load", "docker-image", image, "--name", &self.cluster()]);
        }
        if way == Way::Api {
            command.env("CORACLE_IMAGE_SOURCE", "save");
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(told)?;
        let memory = watch(&mut child)?;
        let seconds = began.elapsed().as_secs_f64();
        if !child.wait().map_err(told)?.success() {
            return Err(format!("{command:?} failed"));
        }
        Ok((seconds, memory))
    }

    /// Removes our images from the nodes, and waits until nothing of them is left.
    fn forget(self) -> Result<()> {
        let script = format!(
            "crictl images --output json | grep -oE '(docker.io/library|localhost:{PORT})/{NAME}[^\"]*' | sort -u | xargs -r crictl rmi >/dev/null 2>&1
             ctr -n k8s.io content prune references >/dev/null 2>&1; sync"
        );
        for node in self.nodes()? {
            docker(&["exec", &node, "bash", "-c", &script])?;
        }
        Ok(())
    }
}

/// Waits for the end of a command, and reads the most memory that it had.
fn watch(child: &mut Child) -> Result<f64> {
    let path = format!("/proc/{}/status", child.id());
    let mut most = 0.0;
    loop {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        most = kib.map_or(most, |kib| kib / 1024.0);
        if child.try_wait().map_err(told)?.is_some() {
            return Ok(most);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The images that are loaded.
struct Images {
    first: String,
    built: usize,
}

impl Images {
    fn new(settings: &Settings) -> Result<Self> {
        std::fs::create_dir_all(settings.home.path().join("build")).map_err(told)?;
        build(settings, &format!("{NAME}-base:1"), "FROM scratch\nCOPY noise /noise\n", LAYERS[0])?;
        let mut images = Self { first: String::new(), built: 0 };
        images.first = images.changed(settings)?;
        Ok(images)
    }

    /// One that differs from all others in the upper layer.
    fn changed(&mut self, settings: &Settings) -> Result<String> {
        let image = format!("{NAME}:{}", self.built);
        self.built += 1;
        build(settings, &image, &format!("FROM {NAME}-base:1\nCOPY noise /top\nCMD [\"/top\"]\n"), LAYERS[1])?;
        Ok(image)
    }
}

fn build(settings: &Settings, image: &str, dockerfile: &str, size: u64) -> Result<()> {
    let directory = settings.home.path().join("build");
    noise(&directory.join("noise"), size)?;
    std::fs::write(directory.join("Dockerfile"), dockerfile).map_err(told)?;
    let mut command = Command::new("docker");
    run(command.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", image]).arg(directory)).map(drop)
}

fn noise(path: &Path, size: u64) -> Result<()> {
    let source = File::open("/dev/urandom").map_err(told)?;
    let mut file = File::create(path).map_err(told)?;
    std::io::copy(&mut source.take(size), &mut file).map_err(told)?;
    file.flush().map_err(told)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The figures of a case: coracle's and kind's seconds.
struct Case {
    title: &'static str,
    /// The most that coracle may take, in parts of what kind takes; none for what is only to be known.
    bar: Option<f64>,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Case {
    const fn new(title: &'static str, bar: Option<f64>) -> Self {
        Self { title, bar, ours: Vec::new(), theirs: Vec::new() }
    }

    fn print(&self) {
        let list = |values: &[f64]| values.iter().map(|value| format!("{value:.2}")).collect::<Vec<_>>().join(" ");
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        let bar = self.bar.map_or_else(|| "-".to_owned(), |bar| bar.to_string());
        println!(
            "| {} | {ours:.2} | {theirs:.2} | {:.3} | {bar} | {} | {} |",
            self.title,
            ours / theirs,
            list(&self.ours),
            list(&self.theirs)
        );
    }
}

/// The cases of clusters of one size.
struct Cases {
    first: [Case; 3],
    changed: [Case; 3],
    nothing: Case,
}

impl Cases {
    /// `api` is the bar for a changed layer that the engine saves.
    const fn new(api: f64) -> Self {
        Self {
            first: [
                Case::new("first load", Some(0.5)),
                Case::new("first load, through the API", None),
                Case::new("first load, through the registry", None),
            ],
            changed: [
                Case::new("1 MB changed, through the layer store", Some(0.1)),
                Case::new("1 MB changed, through the API", Some(api)),
                Case::new("1 MB changed, through the registry", Some(0.1)),
            ],
            nothing: Case::new("nothing changed (bar: 0.3 s)", None),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Case> {
        self.first.iter().chain(&self.changed).chain([&self.nothing])
    }
}

/// What one round of kind's took; its loads have one way only, which every case of ours is compared with.
fn round_of_kind(settings: &Settings, cases: &mut Cases, images: &mut Images) -> Result<()> {
    Tool::Kind.forget()?;
    let (first, _) = Tool::Kind.load(settings, &images.first, Way::Default)?;
    let image = images.changed(settings)?;
    let (changed, _) = Tool::Kind.load(settings, &image, Way::Default)?;
    cases.first.iter_mut().for_each(|case| case.theirs.push(first));
    cases.changed.iter_mut().for_each(|case| case.theirs.push(changed));
    cases.nothing.theirs.push(Tool::Kind.load(settings, &image, Way::Default)?.0);
    Ok(())
}

/// One round of ours; the most memory that a load had.
fn round_of_coracle(settings: &Settings, cases: &mut Cases, images: &mut Images, round: usize) -> Result<f64> {
    let mut memory: f64 = 0.0;
    let mut load = |image: &str, way| {
        let (seconds, most) = Tool::Coracle.load(settings, image, way)?;
        memory = memory.max(most);
        Ok::<f64, String>(seconds)
    };
    for (way, case) in Way::ALL.into_iter().zip(&mut cases.first) {
        // The registry has the lower layer after the first round.
        if way != Way::Registry || round == 0 {
            Tool::Coracle.forget()?;
            case.ours.push(load(&images.first, way)?);
        }
    }
    Tool::Coracle.forget()?;
    load(&images.first, Way::Default)?;
    cases.nothing.ours.push(load(&images.first, Way::Default)?);
    for (way, case) in Way::ALL.into_iter().zip(&mut cases.changed) {
        if way == Way::Registry {
            // Layers that were loaded are not packed any more: what is pulled builds on what was pulled.
            Tool::Coracle.forget()?;
            load(&images.first, way)?;
        }
        case.ours.push(load(&images.changed(settings)?, way)?);
    }
    Ok(memory)
}

/// All cases with so many nodes; the most memory that coracle had.
fn measure(settings: &Settings, nodes: usize, api_bar: f64, images: &mut Images) -> Result<f64> {
    let mut cases = Cases::new(api_bar);
    let mut memory: f64 = 0.0;
    for round in 0..settings.runs {
        memory = memory.max(round_of_coracle(settings, &mut cases, images, round)?);
        round_of_kind(settings, &mut cases, images)?;
    }
    println!(
        "\n## {nodes} node(s)\n\n| | coracle, s | kind, s | ratio | bar | coracle's runs | kind's runs |\n|---|---|---|---|---|---|---|"
    );
    cases.all().for_each(Case::print);
    Ok(memory)
}

fn all(settings: &Settings) -> Result<()> {
    let mut images = Images::new(settings)?;
    let mut memory: f64 = 0.0;
    for (nodes, api_bar) in [(1, 0.35), (3, 0.2)] {
        for tool in Tool::BOTH {
            tool.create(settings, nodes)?;
        }
        registry(settings, &["create", "--port", PORT, "--cluster", &Tool::Coracle.cluster()])?;
        // What a new cluster does besides has come to an end.
        std::thread::sleep(Duration::from_secs(10));
        let measured = measure(settings, nodes, api_bar, &mut images);
        clean(settings)?;
        memory = memory.max(measured?);
    }
    println!("\nmost memory of coracle: {memory:.0} MiB (bar 64)");
    Ok(())
}

fn registry(settings: &Settings, arguments: &[&str]) -> Result<()> {
    let mut command = Tool::Coracle.command(settings);
    run(command.arg("registry").args(arguments).args(["--name", REGISTRY])).map(drop)
}

/// Removes clusters and registry.
fn clean(settings: &Settings) -> Result<()> {
    let deleted = registry(settings, &["delete", "--volumes"]);
    for tool in Tool::BOTH {
        tool.delete(settings)?;
    }
    deleted
}

fn option(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    let place = arguments.iter().position(|argument| argument == name)?;
    arguments.get(place + 1).cloned()
}

fn main() -> Result<()> {
    let settings = Settings {
        runs: option("--runs").and_then(|text| text.parse().ok()).unwrap_or(5),
        image: option("--image").unwrap_or_else(|| "coracle/node:v1.36.3".to_owned()),
        coracle: option("--coracle").map_or_else(|| env!("CARGO_BIN_EXE_coracle").into(), PathBuf::from),
        kind_config: option("--kind-config").map(PathBuf::from),
        home: tempfile::tempdir().map_err(told)?,
    };
    let result = all(&settings);
    if result.is_err() {
        let _ = clean(&settings);
    }
    for repository in [format!("{NAME}*"), format!("localhost:{PORT}/{NAME}*")] {
        let filter = format!("reference={repository}");
        for image in docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", &filter])?.lines() {
            docker(&["image", "rm", "--force", image])?;
        }
    }
    result
}
