//! The first process of nodes that need a preparation which their image does not make. Pure.

use crate::config::Propagation;
use crate::plan::layout::NodeLayout;

/// A script that prepares the container, then becomes the image's own entrypoint.
pub(crate) const PATH: &str = "/etc/coracle/entrypoint";

/// kind's entrypoint expects writable cgroups. A container that is not privileged gets them read-only, and a plain remount
/// fails because they are busy.
const WRITABLE: &str = r#"while read -r _ _ _ _ point options _; do
  if [[ $point == /sys/fs/cgroup* && ",$options," == *,ro,* ]]; then
    mount -o remount,bind,rw "$point"
  fi
done </proc/self/mountinfo
"#;

/// For one mount that the user shares with the host in both directions, the engine shares every volume of the container
/// too: what is then mounted in `/var`, with the tokens of all pods, appears on the host, where nobody removes it again.
/// What the engine itself has mounted below `/var` is on the host already, and an unmount here removes it there.
const OWN: &str = r#"is_meant() {
  local one
  for one in "${meant[@]}"; do [[ $1 == "$one" ]] && return; done
  return 1
}
# Prints the mounts that the host has too, in their order; a mount with a master only receives.
shared_mounts() {
  local point rest
  while read -r _ _ _ _ point _ rest; do
    rest=${rest%%-*}
    [[ $rest == *shared:* && $rest != *master:* ]] && printf '%b\n' "$point"
  done </proc/self/mountinfo
}
mapfile -t shared < <(shared_mounts)
if printf '%s\n' "${shared[@]}" | grep --quiet --line-regexp --fixed-strings /var; then
  aside=/run/coracle-mounts
  mount --make-private /run
  mkdir -p "$aside"
  # The innermost come last.
  for ((i = ${#shared[@]} - 1; i >= 0; i--)); do
    point=${shared[i]}
    [[ $point == /var/* ]] || continue
    if [[ -d $point ]]; then mkdir -p "$aside/$i"; else : >"$aside/$i"; fi
    mount --bind "$point" "$aside/$i" && umount "$point"
  done
  for i in "${!shared[@]}"; do
    point=${shared[i]}
    if [[ -e $aside/$i ]]; then
      mount --move "$aside/$i" "$point"
      rm -rf --one-file-system "${aside:?}/$i"
    fi
    is_meant "$point" || mount --make-private "$point"
  done
  rmdir "$aside"
fi
"#;

/// The script, if the node needs one.
pub(crate) fn script(node: &NodeLayout, shared_store: bool) -> Option<String> {
    let both_ways = node.config.extra_mounts.iter().filter(|mount| mount.propagation == Propagation::Bidirectional);
    let meant: Vec<String> = both_ways.map(|mount| quoted(&mount.container_path)).collect();
    if shared_store && meant.is_empty() {
        return None;
    }
    let mut script = "#!/bin/bash\n".to_owned();
    if !shared_store {
        script.push_str(WRITABLE);
    }
    if !meant.is_empty() {
        script.extend(["meant=(", &meant.join(" "), ")\n", OWN]);
    }
    script.push_str("exec \"$@\"\n");
    Some(script)
}

/// A word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Runs the script, then the entrypoint of all images of kind's layout.
pub(crate) fn command() -> Vec<String> {
    ["/bin/bash", PATH, "/usr/local/bin/entrypoint", "/sbin/init"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ExtraMount;
    use crate::plan::layout::tests::layout;

    #[test]
    fn a_node_keeps_its_mounts_to_itself_if_one_is_shared_in_both_directions() {
        let mut node = layout(1, 0).nodes.remove(0);
        assert_eq!(script(&node, true), None);
        let mut mount = |path: &str, propagation| {
            node.config.extra_mounts.push(ExtraMount {
                host_path: "/mnt".to_owned(),
                container_path: path.to_owned(),
                read_only: false,
                propagation,
            });
            script(&node, true)
        };
        assert_eq!(mount("/mnt/in", Propagation::HostToContainer), None);
        let script = mount("/mnt/it's", Propagation::Bidirectional).unwrap();
        assert!(script.contains("\nmeant=('/mnt/it'\\''s')\n"), "{script}");
    }
}
