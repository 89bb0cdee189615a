//! What users mount, beside what is written into a node: none of it may end in their files. Pure.

use std::path::Path;

use crate::config::KUBELET_DIRECTORY;
use crate::error::{Code, Error, Result};
use crate::plan::files::FileTree;
use crate::plan::layout::NodeLayout;

/// What to do instead, by the beginning of a path.
const INSTEAD: &[(&str, &str)] = &[
    ("/etc/containerd/certs.d", "leave the registry out of `registries`, or mount nothing there"),
    (
        "/etc/containerd",
        "change containerd's configuration with `containerd`, or in a file of kind with `containerdConfigPatches`",
    ),
    ("/etc/systemd", "mount single files with other names instead of the directory"),
];

/// Refuses a mount at the place of a file that is written, or above it: it would be written to the user's host.
///
/// The kubelet's directory is the exception: what is in it is the node's, wherever it lies.
pub(super) fn check(files: &FileTree, node: &NodeLayout) -> Result<()> {
    for mount in node.config.extra_mounts.iter().filter(|mount| mount.container_path != KUBELET_DIRECTORY) {
        let Some((path, _)) = files.iter().find(|(path, _)| Path::new(path).starts_with(&mount.container_path)) else {
            continue;
        };
        let error = Error::new(
            Code::ConfigInvalid,
            format!("node `{}` cannot have a mount at `{}`", node.name, mount.container_path),
        );
        let error =
            error.because(format!("coracle writes `{path}`, which would change `{}` on this host", mount.host_path));
        let instead = INSTEAD.iter().find(|(begin, _)| path.starts_with(begin));
        return Err(error.hint(instead.map_or("choose another path", |(_, instead)| instead)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ExtraMount, Propagation};
    use crate::plan::layout::tests::layout;

    #[test]
    fn nothing_is_written_to_the_users_files() {
        let mut files = FileTree::default();
        files.text("/etc/containerd/config.toml", "");
        files.text("/etc/systemd/system/kubelet.service.d/40-memory.conf", "");
        files.text("/var/lib/kubelet/config.yaml", "");
        let error_of = |path: &str| {
            let mut node = layout(1, 0).nodes.remove(0);
            node.config.extra_mounts.push(ExtraMount {
                host_path: "/home/user/x".to_owned(),
                container_path: path.to_owned(),
                read_only: false,
                propagation: Propagation::None,
            });
            check(&files, &node).map_err(|error| format!("{error}; {:?}", error.hints()))
        };
        for taken in ["/etc/containerd/config.toml", "/etc/systemd/system/kubelet.service.d", "/etc/systemd"] {
            let error = error_of(taken).unwrap_err();
            assert!(error.contains(&format!("a mount at `{taken}`")), "{error}");
        }
        assert!(error_of("/etc/containerd/config.toml").unwrap_err().contains("containerdConfigPatches"));
        for free in
            ["/var/lib/kubelet", "/etc/containerd/certs.d", "/etc/systemd/system/kubelet.service.d/90-mine.conf"]
        {
            assert_eq!(error_of(free), Ok(()));
        }
    }
}
