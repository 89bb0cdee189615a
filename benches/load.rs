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
        command.args(["load", "docker-image", image, "--name", &self.cluster()]);
        if way == Way::Api {
            command.env("CORACLE_IMAGE_SOURCE", "save");
        }
        let began = Instant::now();
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
            "crictl images --output json | grep -o 'docker.io/library/{NAME}[^\"]*' | sort -u | xargs -r crictl rmi >/dev/null 2>&1
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

/// Builds the image, or one that differs from it in the upper layer.
fn build(settings: &Settings, number: usize) -> Result<String> {
    let folder = settings.home.path().join("build");
    std::fs::create_dir_all(&folder).map_err(told)?;
    let base = format!("{NAME}-base:1");
    if number == 0 {
        noise(&folder.join("noise"), LAYERS[0])?;
        std::fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY noise /noise\n").map_err(told)?;
        build_in(&folder, &base)?;
    }
    noise(&folder.join("noise"), LAYERS[1])?;
    std::fs::write(folder.join("Dockerfile"), format!("FROM {base}\nCOPY noise /top\nCMD [\"/top\"]\n"))
        .map_err(told)?;
    let image = format!("{NAME}:{number}");
    build_in(&folder, &image)?;
    Ok(image)
}

fn build_in(folder: &Path, image: &str) -> Result<()> {
    let mut command = Command::new("docker");
    run(command.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", image]).arg(folder)).map(drop)
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
#[derive(Default)]
struct Case {
    title: String,
    bar: f64,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Case {
    fn new(title: &str, bar: f64) -> Self {
        Self { title: title.to_owned(), bar, ..Self::default() }
    }

    fn print(&self) {
        let list = |values: &[f64]| values.iter().map(|value| format!("{value:.2}")).collect::<Vec<_>>().join(" ");
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        let bar = if self.bar.is_nan() { "0.3 s".to_owned() } else { self.bar.to_string() };
        println!(
            "| {} | {ours:.2} | {theirs:.2} | {:.3} | {bar} | {} | {} |",
            self.title,
            ours / theirs,
            list(&self.ours),
            list(&self.theirs)
        );
    }
}

/// All cases with so many nodes; the most memory that coracle had.
fn measure(settings: &Settings, nodes: usize, bars: [f64; 3]) -> Result<f64> {
    let [first_bar, api_bar, store_bar] = bars;
    let mut first = Case::new("first load", first_bar);
    let mut api = Case::new("1 MB changed, through the API", api_bar);
    let mut store = Case::new("1 MB changed, through the layer store", store_bar);
    let mut nothing = Case::new("nothing changed", f64::NAN);
    let mut memory: f64 = 0.0;
    for round in 0..settings.runs {
        for tool in Tool::BOTH {
            tool.forget()?;
            let image = format!("{NAME}:0");
            let mut load = |image: &str, way| {
                let (seconds, most) = tool.load(settings, image, way)?;
                memory = if tool == Tool::Coracle { memory.max(most) } else { memory };
                Ok::<f64, String>(seconds)
            };
            if tool == Tool::Kind {
                first.theirs.push(load(&image, Way::Default)?);
                let changed = load(&build(settings, 3 * round + 1)?, Way::Default)?;
                api.theirs.push(changed);
                store.theirs.push(changed);
                nothing.theirs.push(load(&format!("{NAME}:{}", 3 * round + 1), Way::Default)?);
            } else {
                first.ours.push(load(&image, Way::Default)?);
                nothing.ours.push(load(&image, Way::Default)?);
                api.ours.push(load(&build(settings, 3 * round + 2)?, Way::Api)?);
                store.ours.push(load(&build(settings, 3 * round + 3)?, Way::Default)?);
            }
        }
    }
    println!(
        "\n## {nodes} node(s)\n\n| | coracle, s | kind, s | ratio | bar | coracle's runs | kind's runs |\n|---|---|---|---|---|---|---|"
    );
    [&first, &api, &store, &nothing].into_iter().for_each(Case::print);
    Ok(memory)
}

fn all(settings: &Settings) -> Result<()> {
    build(settings, 0)?;
    let mut memory: f64 = 0.0;
    for (nodes, bars) in [(1, [0.5, 0.35, 0.1]), (3, [0.5, 0.2, 0.1])] {
        for tool in Tool::BOTH {
            tool.create(settings, nodes)?;
        }
        // What a new cluster does besides has come to an end.
        std::thread::sleep(Duration::from_secs(10));
        let measured = measure(settings, nodes, bars);
        for tool in Tool::BOTH {
            tool.delete(settings)?;
        }
        memory = memory.max(measured?);
    }
    println!("\nmost memory of coracle: {memory:.0} MiB (bar 64)");
    Ok(())
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
        for tool in Tool::BOTH {
            let _ = tool.delete(&settings);
        }
    }
    let images =
        docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", &format!("reference={NAME}*")])?;
    for image in images.lines() {
        docker(&["image", "rm", "--force", image])?;
    }
    result
}
