//! The first process of nodes whose image has kind's layout. Pure.

/// A script that prepares the container, then becomes the image's own entrypoint.
pub(crate) const PATH: &str = "/etc/coracle/entrypoint";

/// kind's entrypoint expects writable cgroups. A container that is not privileged gets them read-only, and a plain remount
/// fails because they are busy.
pub(crate) const SCRIPT: &str = r#"#!/bin/bash
while read -r _ _ _ _ point options _; do
  if [[ $point == /sys/fs/cgroup* && ",$options," == *,ro,* ]]; then
    mount -o remount,bind,rw "$point"
  fi
done </proc/self/mountinfo
exec "$@"
"#;

/// Runs the script, then the entrypoint of all images of kind's layout.
pub(crate) fn command() -> Vec<String> {
    ["/bin/bash", PATH, "/usr/local/bin/entrypoint", "/sbin/init"].map(str::to_owned).to_vec()
}
