//! Whether this host has what a configuration mounts into nodes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::{ClusterConfig, ExtraMount, Propagation};
use crate::host::check::Found;
use crate::host::checks::Id;

/// What the engine, which has the same files as this process, would refuse to mount.
pub fn problems(cluster: &ClusterConfig) -> Vec<Found> {
    found(cluster, &std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn found(cluster: &ClusterConfig, table: &str) -> Vec<Found> {
    let mounts = cluster.nodes.iter().enumerate().flat_map(|(node, config)| {
        config.extra_mounts.iter().enumerate().map(move |(index, mount)| (node, index, mount))
    });
    let problem = |(node, index, mount): (usize, usize, &ExtraMount)| {
        let at = |field: &str, message| {
            cluster.places.problem(&format!("nodes[{node}].extraMounts[{index}].{field}"), message)
        };
        let missing = missing(Path::new(&mount.host_path)).map(|message| at("hostPath", message));
        let unshared = || unshared(mount, table).map(|message| (Id::MountNotShared, at("propagation", message)));
        missing.map(|problem| (Id::MountMissing, problem)).or_else(unshared)
    };
    mounts.filter_map(problem).collect()
}

/// What is wrong with a path that does not exist. A path that this user may not look at may well exist for the engine.
fn missing(path: &Path) -> Option<String> {
    let absent = |error: std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    if !path.metadata().is_err_and(absent) {
        return None;
    }
    let shown = path.display();
    match path.read_link() {
        Ok(target) => Some(format!("`{shown}` is a symbolic link to `{}`, which does not exist", target.display())),
        Err(_) => Some(format!("`{shown}` does not exist on this host")),
    }
}

/// What is wrong with the propagation of a mount: the kernel propagates only what is shared.
fn unshared(mount: &ExtraMount, table: &str) -> Option<String> {
    let wanted: &[&str] = match mount.propagation {
        Propagation::None => return None,
        Propagation::HostToContainer => &["shared:", "master:"],
        Propagation::Bidirectional => &["shared:"],
    };
    let path = Path::new(&mount.host_path).canonicalize().ok()?;
    // The last one of those at the same place hides the others.
    let below = table.lines().filter_map(parsed).filter(|(point, _)| path.starts_with(point));
    let (point, tags) = below.max_by_key(|(point, _)| point.components().count())?;
    if tags.iter().any(|tag| wanted.iter().any(|start| tag.starts_with(start))) {
        return None;
    }
    Some(format!(
        "`{}` is in the file system at `{point}`, whose mount is not shared, so that nothing propagates; \
         `sudo mount --make-rshared {point}` shares it",
        mount.host_path,
        point = point.display()
    ))
}

/// The mount point and the tags of a line of `mountinfo`.
fn parsed(line: &str) -> Option<(PathBuf, Vec<&str>)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let tags = fields.iter().skip(6).take_while(|field| **field != "-").copied().collect();
    Some((PathBuf::from(unescaped(fields.get(4)?)), tags))
}

/// The kernel writes a space as `\040`, and likewise tabs, line ends and backslashes.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load};

    #[test]
    fn each_missing_path_is_told_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("gone", directory.path().join("link")).unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        let text = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes:\n- role: control-plane\n  extraMounts:\n  \
                    - {hostPath: link, containerPath: /a}\n  - {hostPath: file, containerPath: /b}\n- role: worker\n  \
                    extraMounts:\n  - {hostPath: absent, containerPath: /a}\n  - {hostPath: file/x, containerPath: /b}\n";
        let overrides = Overrides { base_directory: Some(directory.path().to_owned()), ..Overrides::default() };
        let problems = problems(&load(text, "c.yaml", &overrides).unwrap());
        let places: Vec<&str> = problems.iter().map(|(_, problem)| problem.place.as_str()).collect();
        assert_eq!(places, ["c.yaml:6:16", "c.yaml:10:16", "c.yaml:11:16"]);
        assert!(problems[0].1.message.ends_with("link` is a symbolic link to `gone`, which does not exist"));
        assert!(problems[1].1.message.ends_with("absent` does not exist on this host"), "{problems:?}");
    }

    #[test]
    fn propagation_needs_a_shared_mount() {
        let table = "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                     2 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw\n\
                     3 2 0:5 / /proc rw master:4 - proc proc rw\n\
                     4 2 0:6 / /dev rw shared:7 - devtmpfs udev rw\n";
        let mount = |path: &str, propagation| ExtraMount {
            host_path: path.to_owned(),
            container_path: "/x".to_owned(),
            read_only: false,
            propagation,
        };
        let refused = |path: &str, propagation| unshared(&mount(path, propagation), table);
        assert!(refused("/", Propagation::Bidirectional).unwrap().contains("`sudo mount --make-rshared /`"));
        assert!(refused("/", Propagation::HostToContainer).is_some());
        assert_eq!(refused("/", Propagation::None), None);
        assert_eq!(refused("/proc", Propagation::HostToContainer), None);
        assert!(refused("/proc", Propagation::Bidirectional).is_some());
        assert_eq!(refused("/dev", Propagation::Bidirectional), None);
        let text = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes:\n- role: control-plane\n  extraMounts:\n  \
                    - {hostPath: /, containerPath: /a, propagation: Bidirectional}\n";
        let found = found(&load(text, "c.yaml", &Overrides::default()).unwrap(), table);
        assert!(matches!(&found[..], [(Id::MountNotShared, problem)] if problem.place == "c.yaml:6:51"), "{found:?}");
        assert_eq!(parsed("1 0 8:1 / /a\\040b rw - ext4 x rw").unwrap().0, Path::new("/a b"));
    }
}
