use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256, Sha512};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const CONTAINERD: &str = "/containerd/containerd/releases/download/v2.3.7/containerd-static-2.3.7-linux-amd64.tar.gz";
const RUNC: &str = "/opencontainers/runc/releases/download/v1.5.2/runc.amd64";
const CNI: &str = "/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz";
const CRICTL: &str = "/kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-amd64.tar.gz";
const COREDNS: &str = "/coredns/coredns/releases/download/v1.14.2/coredns_1.14.2_linux_amd64.tgz";

/// What a server does with a path, the first times; later it has the file.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    /// Breaks off after so many bytes.
    Breaks(usize),
    Busy,
}

/// A server with GitHub's paths.
#[derive(Default)]
struct GitHub {
    files: BTreeMap<String, Vec<u8>>,
    mishaps: Mutex<Vec<(String, Mishap)>>,
    /// The path of each request, and where it wanted to go on.
    requests: Mutex<Vec<String>>,
}

impl GitHub {
    /// With all that a node needs, as the projects lay it out.
    fn new() -> Self {
        let plugins: Vec<_> =
            CNI_PLUGINS.iter().map(|path| format!("./{}", path.rsplit('/').next().unwrap())).collect();
        let plugins: Vec<_> = plugins.iter().map(String::as_str).chain(["./LICENSE", "./vlan"]).collect();
        let containerd = ["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr", "bin/containerd-stress"];
        let mut github = Self::default();
        let mut add = |path: &str, content: Vec<u8>, hashes: &str| {
            let (directory, file) = path.rsplit_once('/').unwrap();
            let (short, long) = (format!("{:x}", Sha256::digest(&content)), format!("{:x}", Sha512::digest(&content)));
            let text = match hashes {
                "runc.sha256sum" => {
                    let other = format!("{:x}", Sha256::digest(b"arm"));
                    format!(
                        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{short}  {file}\n{other}  runc.arm64\n"
                    )
                }
                // No name beside the hash.
                hashes if hashes.ends_with(".sha512") => format!("{long}\n"),
                _ => format!("{short} *release/{file}\n"),
            };
            github.files.insert(format!("{directory}/{hashes}"), text.into_bytes());
            github.files.insert(path.to_owned(), content);
        };
        let named = |path: &str, kind: &str| format!("{}.{kind}", path.rsplit('/').next().unwrap());
        add(CONTAINERD, archive(&containerd), &named(CONTAINERD, "sha256sum"));
        add(RUNC, b"runc".to_vec(), "runc.sha256sum");
        add(CNI, archive(&plugins), &named(CNI, "sha512"));
        add(CRICTL, archive(&["crictl"]), &named(CRICTL, "sha512"));
        // Only the shorter hash.
        add(COREDNS, archive(&["coredns"]), &named(COREDNS, "sha256"));
        github
    }

    fn with(self, path: &str, mishap: Mishap) -> Self {
        self.mishaps.lock().unwrap().push((path.to_owned(), mishap));
        self
    }

    async fn serve(self) -> (String, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let github = Arc::new(self);
        let own = github.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                own.answer(connection).await;
            }
        });
        (address, github)
    }

    async fn answer(&self, mut connection: TcpStream) {
        let mut lines = BufReader::new(&mut connection).lines();
        let (mut path, mut from) = (String::new(), 0);
        while let Ok(Some(line)) = lines.next_line().await
            && !line.is_empty()
        {
            if let Some(rest) = line.strip_prefix("GET ") {
                path = rest.split(' ').next().unwrap().to_owned();
            }
            if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                from = range.trim_end_matches('-').parse().unwrap();
            }
        }
        self.requests.lock().unwrap().push(format!("{path} {from}"));
        let mishap = {
            let mut mishaps = self.mishaps.lock().unwrap();
            let index = mishaps.iter().position(|(other, _)| *other == path);
            index.map(|index| mishaps.remove(index).1)
        };
        let file = self.files.get(&path);
        let (status, content) = match (mishap, file) {
            (Some(Mishap::Busy), _) => ("503 Service Unavailable", &b""[..]),
            (_, None) => ("404 Not Found", &b"no such file"[..]),
            (_, Some(file)) if from > 0 => ("206 Partial Content", &file[from..]),
            (_, Some(file)) => ("200 OK", file.as_slice()),
        };
        let range = match file {
            Some(file) if from > 0 => format!("Content-Range: bytes {from}-{}/{}\r\n", file.len() - 1, file.len()),
            _ => String::new(),
        };
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{range}Connection: close\r\n\r\n", content.len());
        let end = if let Some(Mishap::Breaks(after)) = mishap { after } else { content.len() };
        let _ = connection.write_all(head.as_bytes()).await;
        let _ = connection.write_all(&content[..end]).await;
    }

    fn requests_of(&self, path: &str) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter_map(|request| Some(request.strip_prefix(path)?.trim().to_owned())).collect()
    }
}

/// A packed archive in which each file has its own path as content.
fn archive(paths: &[&str]) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for path in paths {
        let mut header = tar::Header::new_gnu();
        header.set_size(path.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, path.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

async fn take_all(server: &str, root: &Path) -> Result<Published> {
    let versions = Versions::load().unwrap();
    let release = versions.release(Some("1.36")).unwrap();
    take_from(server, &Cache::open(root).unwrap(), &assets(&versions, release).unwrap(), &|_, _| {}).await
}

#[tokio::test]
async fn each_program_is_taken_from_the_file_of_its_project() {
    let (server, github) = GitHub::new().serve().await;
    let root = tempfile::tempdir().unwrap();
    let published = take_all(&server, root.path()).await.unwrap();
    let said = |directory: &Path, name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    assert_eq!(said(&published.containerd, "containerd-shim-runc-v2"), "bin/containerd-shim-runc-v2");
    assert_eq!(said(&published.runc, "runc"), "runc");
    assert_eq!(said(&published.crictl, "crictl"), "crictl");
    assert_eq!(said(&published.coredns, "coredns"), "coredns");
    assert_eq!(std::fs::read_dir(&published.cni).unwrap().count(), CNI_PLUGINS.len(), "no more than what a node needs");
    let mode = std::fs::metadata(published.cni.join("bridge")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    // A second build asks nobody.
    let asked = github.requests.lock().unwrap().len();
    take_all(&server, root.path()).await.unwrap();
    assert_eq!(github.requests.lock().unwrap().len(), asked);
}

#[tokio::test]
async fn a_download_goes_on_after_a_break_and_a_busy_server_is_asked_again() {
    let github = GitHub::new().with(CONTAINERD, Mishap::Breaks(40)).with(CRICTL, Mishap::Busy);
    let (server, github) = github.serve().await;
    let root = tempfile::tempdir().unwrap();
    take_all(&server, root.path()).await.unwrap();
    assert_eq!(github.requests_of(CONTAINERD), [".sha256sum 0", "0", "40"]);
    assert_eq!(github.requests_of(CRICTL), [".sha512 0", "0", "0"]);
}

#[tokio::test]
async fn what_is_not_as_published_is_not_taken() {
    let mut github = GitHub::new();
    github.files.get_mut(COREDNS).unwrap()[20] ^= 1;
    let (server, github) = github.serve().await;
    let root = tempfile::tempdir().unwrap();
    let error = take_all(&server, root.path()).await.unwrap_err();
    assert_eq!(error.code(), Code::BuildFailed);
    assert_eq!(error.message(), format!("{server}{COREDNS} is not what its project has published"));
    assert_eq!(github.requests_of(COREDNS).len(), 3, "two hashes, of which one exists, and the file once");
    let kept = std::fs::read_dir(root.path()).unwrap().flatten();
    let kept: Vec<_> = kept.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name()).collect();
    assert!(kept.iter().all(|name| !name.to_string_lossy().starts_with("coredns")), "{kept:?}");
}

#[tokio::test]
async fn what_can_never_succeed_is_not_repeated() {
    // A version without this file.
    let mut github = GitHub::new();
    github.files.remove(RUNC);
    let (server, github) = github.serve().await;
    let root = tempfile::tempdir().unwrap();
    let error = take_all(&server, root.path()).await.unwrap_err();
    assert_eq!(error.message(), format!("there is no {server}{RUNC}"));
    assert_eq!(github.requests_of(RUNC), ["0"]);
    // A login page in the server's place.
    let mut github = GitHub::new();
    let path = RUNC.replace("runc.amd64", "runc.sha256sum");
    github.files.insert(path.clone(), b"<html>Welcome to the hotel</html>".to_vec());
    let (server, github) = github.serve().await;
    let error = take_all(&server, root.path()).await.unwrap_err();
    assert_eq!(error.message(), format!("{server}{path} has no hash of runc.amd64"));
    assert!(github.requests_of(RUNC).is_empty());
    // Nobody there.
    let began = std::time::Instant::now();
    let error = take_all("http://127.0.0.1:1", root.path()).await.unwrap_err();
    assert!(error.cause().unwrap().contains("Failed to connect"), "{error}");
    // With its pauses, asking five times takes 7.5 s.
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "asked again and again");
}

#[tokio::test]
async fn an_archive_without_a_program_is_named() {
    let mut github = GitHub::new();
    let content = archive(&["bin/containerd", "bin/ctr"]);
    let sum = format!("{:x}  {}\n", Sha256::digest(&content), CONTAINERD.rsplit('/').next().unwrap());
    github.files.insert(format!("{CONTAINERD}.sha256sum"), sum.into_bytes());
    github.files.insert(CONTAINERD.to_owned(), content);
    let (server, _) = github.serve().await;
    let root = tempfile::tempdir().unwrap();
    let error = take_all(&server, root.path()).await.unwrap_err();
    assert_eq!(error.message(), format!("{server}{CONTAINERD} has no `containerd-shim-runc-v2`"));
}

#[test]
fn a_hash_is_found_by_the_name_of_its_file() {
    let (short, long) = ("a".repeat(64), "B".repeat(128));
    assert_eq!(hash_in(&format!("{long}\n"), "x").as_deref(), Some("b".repeat(128).as_str()), "alone");
    assert_eq!(hash_in(&format!("{short}  y\n{long} *dir/x\n"), "x").map(|hash| hash.len()), Some(128));
    assert_eq!(hash_in(&format!("{short}  y\n"), "x"), None, "of another file");
    assert_eq!(hash_in(&format!("{short}\n{short}\n"), "x"), None, "of whatever");
    assert_eq!(hash_in("deadbeef  x\n", "x"), None, "no hash of a kind that is checked");
}
