//! A node image with programs that their projects publish, from a server with GitHub's paths.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256, Sha512};

use crate::Group;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, json};
use crate::harness::engine::newest_image;
use crate::harness::run::{docker, ensure, run};
use crate::scenarios::failures::refused;

/// A node image from releases.
pub const RELEASES: Group =
    Group { name: "releases", environment: &[], create: from_releases, together: &[], scenarios: &[] };

/// What the published programs have at their end, unlike those that are built here.
const MARK: &[u8] = b"\npublished\n";
/// Kubernetes is compiled already; everything else is put together anew.
const BUILD_LIMIT: Duration = Duration::from_secs(600);
const SYSTEM: &str = "/usr/lib/coracle/snapshots/1/fs";
const CNI: &str = "/opt/cni/bin";
const CNI_PLUGINS: [&str; 12] = [
    "bandwidth",
    "bridge",
    "firewall",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "portmap",
    "ptp",
    "static",
    "tuning",
];

/// The image has the programs that were published, a cluster works with them, and it is known to be current without a server.
fn from_releases(cluster: &Cluster) -> Result<(), String> {
    let Some(cache) = cache(cluster)? else {
        println!("        skipped: Kubernetes was never compiled here");
        return Ok(());
    };
    let node_image = newest_image("coracle/node")?;
    let server = serve(published(cluster, &node_image)?)?;
    let image = format!("{}releases-{}:1", cleanup::PREFIX, std::process::id());
    cleanup::register_object("image", &image);
    let build = |server: &str, more: &[&str]| -> Command {
        let mut build = cluster.command(&[&["build", "node-image", "--image", &image], more].concat());
        build.env("CORACLE_GITHUB_URL", server).env("XDG_CACHE_HOME", &cache);
        if let Some(home) = std::env::home_dir() {
            build.env("HOME", &home).env("GOCACHE", home.join(".cache/go-build"));
        }
        build
    };
    let nobody = "http://127.0.0.1:1";
    let parts = ["http://127.0.0.1:1/opencontainers/runc/", "Failed to connect", "--from source"];
    refused(cluster, build(nobody, &["--from", "release"]), "build-failed", 1, &parts)?;
    for (server, is_current) in [(server.as_str(), false), (nobody, true)] {
        let said = run(build(server, &["-o", "json"]), None, BUILD_LIMIT)?.ok()?;
        let result = json(said.lines().find(|line| line.contains(r#""event":"result""#)).unwrap_or_default())?;
        ensure(result["unchanged"] == json!(is_current), || format!("{server}: {said}"))?;
    }

    cluster.coracle(&["create", "cluster", "--image", &image])?;
    let mut programs: Vec<String> = ["containerd", "containerd-shim-runc-v2", "ctr", "crictl"]
        .map(|name| format!("/usr/local/bin/{name}"))
        .into_iter()
        .chain(CNI_PLUGINS.map(|name| format!("{CNI}/{name}")))
        .collect();
    programs.extend(["/usr/local/sbin/runc".to_owned(), format!("{SYSTEM}/coredns")]);
    let look = format!("for file in {}; do tail -n 1 $file; done", programs.join(" "));
    let said = cluster.in_node(&look)?;
    let marked = said.lines().filter(|line| *line == "published").count();
    ensure(marked == programs.len(), || format!("{marked} of {} are those that were published", programs.len()))?;
    cluster.coracle(&["status"])?;
    cluster.coracle(&["delete", "cluster"]).map(drop)
}

/// What the projects would publish: the programs of a node image, each with a mark, by path.
fn published(cluster: &Cluster, image: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let name = format!("{}releases-programs-{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("container", &name);
    docker(&["create", "--name", &name, image])?;
    let program = |path: &str| -> Result<Vec<u8>, String> {
        let file = cluster.home.join(path.rsplit('/').next().unwrap_or(path));
        docker(&["cp", "--follow-link", &format!("{name}:{path}"), &file.display().to_string()])?;
        let mut content = std::fs::read(&file).map_err(|error| error.to_string())?;
        content.extend(MARK);
        Ok(content)
    };
    let containerd = ["containerd", "containerd-shim-runc-v2", "ctr"]
        .map(|name| (format!("bin/{name}"), format!("/usr/local/bin/{name}")));
    let plugins = CNI_PLUGINS.map(|name| (format!("./{name}"), format!("{CNI}/{name}")));
    let packed = |programs: &[(String, String)]| -> Result<Vec<u8>, String> {
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (inside, path) in programs {
            let content = program(path)?;
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            archive.append_data(&mut header, inside, content.as_slice()).map_err(|error| error.to_string())?;
        }
        archive.into_inner().and_then(flate2::write::GzEncoder::finish).map_err(|error| error.to_string())
    };
    let one = |name: &str, path: &str| packed(&[(name.to_owned(), path.to_owned())]);
    let files = [
        ("containerd/containerd", "containerd-static-{}-linux-amd64.tar.gz", packed(&containerd)?),
        ("containernetworking/plugins", "cni-plugins-linux-amd64-v{}.tgz", packed(&plugins)?),
        ("coredns/coredns", "coredns_{}_linux_amd64.tgz", one("coredns", &format!("{SYSTEM}/coredns"))?),
        ("kubernetes-sigs/cri-tools", "crictl-v{}-linux-amd64.tar.gz", one("crictl", "/usr/local/bin/crictl")?),
        ("opencontainers/runc", "runc.amd64", program("/usr/local/sbin/runc")?),
    ];
    docker(&["rm", &name])?;
    let mut served = BTreeMap::new();
    for (project, file, content) in files {
        let version = pinned(project)?;
        let file = file.replace("{}", version.trim_start_matches('v'));
        let path = format!("/{project}/releases/download/{version}/{file}");
        let (short, long) = (format!("{:x}  {file}\n", Sha256::digest(&content)), Sha512::digest(&content));
        let (hashes, text) = match project {
            "containerd/containerd" => (format!("{path}.sha256sum"), short),
            "opencontainers/runc" => (path.replace("runc.amd64", "runc.sha256sum"), short),
            "coredns/coredns" => (format!("{path}.sha256"), short),
            _ => (format!("{path}.sha512"), format!("{long:x}  {file}\n")),
        };
        served.extend([(hashes, text.into_bytes()), (path, content)]);
    }
    Ok(served)
}

/// The version of a project's module in the recipe; of CoreDNS the one of the newest Kubernetes, which comes first.
fn pinned(project: &str) -> Result<String, String> {
    let module = match project {
        "kubernetes-sigs/cri-tools" => "sigs.k8s.io/cri-tools".to_owned(),
        other => format!("github.com/{other}"),
    };
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("node-image/versions.yaml"));
    let text = text.map_err(|error| error.to_string())?;
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("- module: {module}"))).skip(1);
    let version = lines.next().and_then(|line| line.trim().strip_prefix("version: "));
    version.map(str::to_owned).ok_or_else(|| format!("the recipe has no {module}"))
}

/// A cache with what the user's has, so that Kubernetes is not compiled, and from which nothing stays; `None` if it was not.
fn cache(cluster: &Cluster) -> Result<Option<PathBuf>, String> {
    let root = cluster.home.join("cache");
    let ours = root.join("coracle/node-image");
    std::fs::create_dir_all(&ours).map_err(|error| error.to_string())?;
    let users = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let users = users.or_else(|| std::env::home_dir().map(|home| home.join(".cache"))).unwrap_or_default();
    let mut is_compiled = false;
    for entry in std::fs::read_dir(users.join("coracle/node-image")).into_iter().flatten().flatten() {
        is_compiled |= entry.file_name().to_string_lossy().starts_with("kubernetes-");
        let link = ours.join(entry.file_name());
        std::os::unix::fs::symlink(entry.path(), link).map_err(|error| error.to_string())?;
    }
    Ok(is_compiled.then_some(root))
}

/// Serves files for as long as the tests run; returns the address.
fn serve(files: BTreeMap<String, Vec<u8>>) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let files = Arc::new(files);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let files = files.clone();
            std::thread::spawn(move || answer(connection, &files));
        }
    });
    Ok(format!("http://{address}"))
}

fn answer(mut connection: TcpStream, files: &BTreeMap<String, Vec<u8>>) {
    let Ok(reading) = connection.try_clone() else { return };
    let lines = BufReader::new(reading).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let request = lines.fold(String::new(), |first, line| if first.is_empty() { line } else { first });
    let file = request.split(' ').nth(1).and_then(|path| files.get(path));
    let (status, content) = file.map_or(("404 Not Found", &[][..]), |file| ("200 OK", file.as_slice()));
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
    let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(content));
}
