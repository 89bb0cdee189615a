//! The first process of nodes whose image is of kind's layout. Pure.

/// A script that prepares the container and becomes the image's own entrypoint.
pub(crate) const PATH: &str = "/etc/coracle/entrypoint";

/// kind's entrypoint takes writable cgroups for granted. A container that is not privileged gets them read-only; a plain remount says
/// busy.
pub(crate) const SCRIPT: &str = r#"#!/bin/bash
while read -r _ _ _ _ point options _; do
  if [[ $point == /sys/fs/cgroup* && ",$options," == *,ro,* ]]; then
    mount -o remount,bind,rw "$point"
  fi
done </proc/self/mountinfo
exec "$@"
"#;

/// Runs the script, then what is the entrypoint of every image of kind's layout.
pub(crate) fn command() -> Vec<String> {
    ["/bin/bash", PATH, "/usr/local/bin/entrypoint", "/sbin/init"].map(str::to_owned).to_vec()
}
