//! `coracle-agent images link`: gives nodes the layers that another node of the same machine has, in a helper container that
//! has the engine's volumes.
//!
//! The files of a layer never change: the overlay copies what a container writes to. So one copy of them is enough for all
//! nodes, and each node's directory has links to it. A node may remove its links at any time.

use std::fs;
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use coracle_shared::paths::{LINKER_VOLUMES, STAGING};
use coracle_shared::wire::{self, Answer, LinkRequest, Reason, VERSION};
use rustix::fs::{Mode, OFlags};

use super::adopt::copy_attributes;
use super::receive::answer;
use super::staging::Staging;
use super::trouble::{Result, Trouble, failed};

/// What nodes keep below their volume.
const VAR: &str = "/var";

/// Answers the request on standard input, and keeps what it made until that ends.
pub(super) fn main() -> Result<()> {
    let mut input = BufReader::new(io::stdin().lock());
    let Some(linking) = wire::receive::<LinkRequest>(&mut input)? else { return Ok(()) };
    if linking.version != VERSION {
        let message = format!("this program has version {VERSION} of the messages, not {}", linking.version);
        return Err(Trouble { reason: Reason::Version, message });
    }
    let staged = link_all(Path::new(LINKER_VOLUMES), &linking)?;
    answer(&Answer::Done(Vec::new()))?;
    // Each directory is locked until the nodes have taken their layers out of it; then what is left is removed.
    io::copy(&mut input, &mut io::sink())?;
    drop(staged);
    Ok(())
}

fn link_all(volumes: &Path, linking: &LinkRequest) -> Result<Vec<Staging>> {
    let source = volumes.join(plain(&linking.from)?);
    let mut staged = Vec::new();
    for node in &linking.to {
        let root = volumes.join(plain(node)?);
        let staging = Staging::create(&root.join(below_var(STAGING)?), &plain(&linking.name)?.to_string_lossy())?;
        for (index, layer) in linking.layers.iter().enumerate() {
            let from = source.join(below_var(layer)?);
            link(&from, &staging.path(index))
                .map_err(|error| failed(format!("cannot link `{}`: {error}", from.display())))?;
        }
        staged.push(staging);
    }
    Ok(staged)
}

/// A path that leads nowhere else.
fn plain(path: &str) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if is_plain && path.components().next().is_some() {
        return Ok(path);
    }
    Err(failed(format!("`{}` is not a path below a volume", path.display())))
}

/// A path of a node, below its volume.
fn below_var(path: &str) -> Result<PathBuf> {
    let below = Path::new(path).strip_prefix(VAR).map_err(|_| failed(format!("`{path}` is not below {VAR}")))?;
    plain(&below.to_string_lossy())
}

/// Makes the directories anew, and links everything else.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link(&entry.path(), &target)?;
        } else {
            fs::hard_link(entry.path(), target)?;
        }
    }
    // Last of all, because what is put into a directory changes its times.
    copy_attributes(&open(from)?, &open(to)?, |_| true)
}

fn open(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn request(layers: &[&str]) -> LinkRequest {
        LinkRequest {
            version: VERSION,
            from: "a/_data".to_owned(),
            to: vec!["b/_data".to_owned(), "c/_data".to_owned()],
            name: "run".to_owned(),
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
        }
    }

    #[test]
    fn other_nodes_get_the_same_files_in_directories_of_their_own() {
        let volumes = tempfile::tempdir().unwrap();
        let layer = volumes.path().join("a/_data/lib/snapshots/7/fs");
        fs::create_dir_all(layer.join("etc/empty")).unwrap();
        fs::write(layer.join("etc/file"), "content").unwrap();
        symlink("/nowhere", layer.join("etc/link")).unwrap();
        fs::set_permissions(layer.join("etc"), fs::Permissions::from_mode(0o2750)).unwrap();
        let modified = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::open(layer.join("etc")).unwrap().set_modified(modified).unwrap();
        let linking = request(&["/var/lib/snapshots/7/fs"]);
        let staged = link_all(volumes.path(), &linking).unwrap();
        for node in ["b", "c"] {
            let got = volumes.path().join(node).join("_data").join(&linking.directory(0)["/var/".len()..]);
            let same = |path: &str| {
                let (given, got) = (layer.join(path), got.join(path));
                fs::symlink_metadata(given).unwrap().ino() == fs::symlink_metadata(got).unwrap().ino()
            };
            assert!(same("etc/file") && same("etc/link") && !same("etc"));
            let directory = fs::metadata(got.join("etc")).unwrap();
            assert_eq!((directory.mode() & 0o7777, directory.modified().unwrap()), (0o2750, modified));
            assert!(got.join("etc/empty").is_dir());
        }
        assert_eq!(fs::metadata(layer.join("etc/file")).unwrap().nlink(), 3);
        // What no node has taken goes with the run; the layer stays.
        drop(staged);
        assert_eq!(fs::metadata(layer.join("etc/file")).unwrap().nlink(), 1);
    }

    #[test]
    fn a_request_reaches_nothing_but_volumes() {
        let volumes = tempfile::tempdir().unwrap();
        for layer in ["/etc", "/var/../etc", "var/lib", "/var"] {
            assert!(link_all(volumes.path(), &request(&[layer])).is_err(), "{layer}");
        }
        for node in ["../x", "/x", ""] {
            let linking = LinkRequest { to: vec![node.to_owned()], ..request(&[]) };
            assert!(link_all(volumes.path(), &linking).is_err(), "{node}");
        }
    }
}
