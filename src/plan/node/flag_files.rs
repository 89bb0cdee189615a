//! Files of the node that a component's flags name, such as an audit policy; its static pod has to mount them. Pure.

use std::path::Path;

use crate::config::{ExtraMount, FlagValue, Flags};

/// A path of the node that a static pod mounts at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPath {
    /// Name of the volume.
    pub(crate) name: String,
    /// The path.
    pub(crate) path: String,
    /// Whether the pod may not write to it.
    pub(crate) read_only: bool,
    /// The type of a hostPath volume.
    pub(crate) kind: &'static str,
}

impl HostPath {
    /// A path that a component always has.
    pub(crate) fn new(name: &str, path: &str, read_only: bool, kind: &'static str) -> Self {
        Self { name: name.to_owned(), path: path.to_owned(), read_only, kind }
    }
}

/// The paths that a pod has to mount besides `mounted`, so that the paths in the flags' values exist in it.
///
/// A path in one of the node's extra mounts brings the whole mount, because a file may name others beside it. Any other path
/// brings its directory, which is created if needed, such as that of a log.
pub(crate) fn host_paths(flags: &Flags, mounts: &[ExtraMount], mounted: &[HostPath]) -> Vec<HostPath> {
    let mut found: Vec<HostPath> = Vec::new();
    for path in flags.values().flat_map(FlagValue::parts).filter(|part| part.starts_with('/')) {
        let path = Path::new(path);
        let covered = |others: &[HostPath]| others.iter().any(|other| path.starts_with(&other.path));
        if covered(mounted) || covered(&found) {
            continue;
        }
        let (wanted, read_only, kind) = match mount_of(path, mounts) {
            Some(mount) => (Path::new(&mount.container_path), mount.read_only, ""),
            None => match path.parent() {
                // `/registry` is a prefix of keys, not a file.
                None => continue,
                Some(parent) if parent == Path::new("/") => continue,
                // All of `/etc` would hide that of the image.
                Some(parent) if parent.components().count() == 2 => (path, false, "FileOrCreate"),
                Some(parent) => (parent, false, "DirectoryOrCreate"),
            },
        };
        let name = format!("files-{}", found.len() + 1);
        found.push(HostPath::new(&name, &wanted.to_string_lossy(), read_only, kind));
    }
    found
}

/// The extra mount that contains the path.
fn mount_of<'m>(path: &Path, mounts: &'m [ExtraMount]) -> Option<&'m ExtraMount> {
    mounts.iter().find(|mount| path.starts_with(&mount.container_path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Propagation;

    fn found(value: &str) -> Vec<(String, bool, &'static str)> {
        let flags = Flags::from([("some-file".to_owned(), value.to_owned().into())]);
        let mounts = [ExtraMount {
            host_path: "/home/me/files".to_owned(),
            container_path: "/etc/kubernetes/files".to_owned(),
            read_only: true,
            propagation: Propagation::None,
        }];
        let mounted = [HostPath::new("k8s-certs", "/etc/kubernetes/pki", true, "DirectoryOrCreate")];
        host_paths(&flags, &mounts, &mounted).into_iter().map(|path| (path.path, path.read_only, path.kind)).collect()
    }

    #[test]
    fn a_file_of_an_extra_mount_brings_the_mount() {
        assert_eq!(found("/etc/kubernetes/files/audit.yaml"), [("/etc/kubernetes/files".to_owned(), true, "")]);
        assert_eq!(found("/etc/kubernetes/files"), [("/etc/kubernetes/files".to_owned(), true, "")]);
    }

    #[test]
    fn another_file_brings_its_directory_once() {
        let logs = ("/var/log/kubernetes".to_owned(), false, "DirectoryOrCreate");
        assert_eq!(found("/var/log/kubernetes/a.log,/var/log/kubernetes/b.log"), [logs]);
        assert_eq!(found("/etc/one.yaml"), [("/etc/one.yaml".to_owned(), false, "FileOrCreate")]);
    }

    #[test]
    fn what_is_mounted_already_or_is_no_file_brings_nothing() {
        for value in ["/etc/kubernetes/pki/ca.crt", "/registry", "https://example.com/a/b", "a/b", "-", "4"] {
            assert_eq!(found(value), [], "{value}");
        }
    }
}
