//! The first process of nodes that need a preparation which their image does not make. Pure.

use std::fmt::Write as _;

use crate::config::{NodeSettings, Propagation};
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
/// too: what is then mounted in `/var`, with the tokens of all pods, appears on the host, where no one removes it again.
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

/// The kubelet takes its capacity from the machine and not from its cgroup. With these mounts, it and every other program
/// of the node see what the container may use. What they hide would keep the kernel from mounting `/proc` and `/sys` in a
/// pod with users of its own, unless there is a complete one elsewhere.
const LIMITED: &str = r#"fail() { echo "entrypoint: cannot show the limits of the node: $*" >&2; exit 1; }
own=/run/coracle
mkdir -p "$own/proc" "$own/sys"
mount -t proc proc "$own/proc" || fail "$own/proc"
mount -t sysfs sysfs "$own/sys" || fail "$own/sys"
"#;

/// `/proc/meminfo` of a machine with `$memory` KiB and without swap.
const MEMORY: &str = r#"while read -r name value unit; do
  case $name in
    MemTotal:) value=$memory ;;
    Swap*) value=0 ;;
    *) [[ $unit == kB && $name != Vmalloc* ]] && ((value > memory)) && value=$memory ;;
  esac
  printf '%-15s %8s %s\n' "$name" "$value" "$unit"
done <"$own/proc/meminfo" >"$own/meminfo"
mount --bind "$own/meminfo" /proc/meminfo || fail /proc/meminfo
"#;

/// The first `$cpus` processors of the machine. Where the kernel has no NUMA nodes, the kubelet counts directories.
const CPUS: &str = r#"kept=()
IFS=, read -ra ranges <"$own/sys/devices/system/cpu/online"
for range in "${ranges[@]}"; do
  for ((cpu = ${range%-*}; cpu <= ${range#*-} && ${#kept[@]} < cpus; cpu++)); do kept+=("$cpu"); done
done
mkdir -p "$own/cpu"
(IFS=,; echo "${kept[*]}") >"$own/cpu/online"
if compgen -G '/sys/devices/system/node/node*' >/dev/null; then
  mount --bind "$own/cpu/online" /sys/devices/system/cpu/online || fail /sys/devices/system/cpu/online
else
  cp "$own/cpu/online" "$own/cpu/present"
  cp "$own/cpu/online" "$own/cpu/possible"
  for cpu in "${kept[@]}"; do
    mkdir -p "$own/cpu/cpu$cpu"
    mount --bind "$own/sys/devices/system/cpu/cpu$cpu" "$own/cpu/cpu$cpu" || fail "cpu$cpu"
  done
  mount --rbind "$own/cpu" /sys/devices/system/cpu || fail /sys/devices/system/cpu
fi
"#;

/// What shows the limits of the container to the programs in it.
fn limits(script: &mut String, settings: &NodeSettings) {
    if settings.memory.is_none() && settings.cpus.is_none() {
        return;
    }
    script.push_str(LIMITED);
    if let Some(memory) = settings.memory {
        let _ = write!(script, "memory={}\n{MEMORY}", memory.0 / 1024);
    }
    if let Some(cpus) = settings.cpus {
        let _ = write!(script, "cpus={}\n{CPUS}", cpus.whole());
    }
}

/// The script, if the node needs one.
pub(crate) fn script(node: &NodeLayout, shared_store: bool) -> Option<String> {
    let both_ways = node.config.extra_mounts.iter().filter(|mount| mount.propagation == Propagation::Bidirectional);
    let meant: Vec<String> = both_ways.map(|mount| quoted(&mount.container_path)).collect();
    let mut script = String::new();
    if !shared_store {
        script.push_str(WRITABLE);
    }
    if !meant.is_empty() {
        script.extend(["meant=(", &meant.join(" "), ")\n", OWN]);
    }
    limits(&mut script, &node.config.settings);
    if script.is_empty() {
        return None;
    }
    script.insert_str(0, "#!/bin/bash\n");
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

    /// Runs the part of the script that shows limits, on files of a directory and without mounts.
    fn shown(settings: &NodeSettings, meminfo: &str, online: &str) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("own");
        let cpus = own.join("sys/devices/system/cpu");
        std::fs::create_dir_all(own.join("proc")).unwrap();
        std::fs::create_dir_all(&cpus).unwrap();
        std::fs::write(own.join("proc/meminfo"), meminfo).unwrap();
        std::fs::write(cpus.join("online"), online).unwrap();
        let mut script = "mount() { :; }\n".to_owned();
        limits(&mut script, settings);
        let script = script.replace("own=/run/coracle", &format!("own={}", own.display()));
        let bash = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(bash.status.success(), "{bash:?}");
        let read = |name: &str| std::fs::read_to_string(own.join(name)).unwrap_or_default();
        (read("meminfo"), read("cpu/online"))
    }

    #[test]
    fn programs_of_a_node_see_what_it_may_use() {
        let meminfo = "MemTotal:       24684092 kB\nMemFree:          560352 kB\nSwapTotal:       1000000 kB\n\
                       Cached:          5000000 kB\nVmallocTotal:   34359738367 kB\nHugePages_Total:       0\n";
        let (memory, cpus) = (Some(crate::config::Memory(1 << 30)), Some(crate::config::Cpus(2500)));
        let (shown_memory, online) =
            shown(&NodeSettings { memory, cpus, ..NodeSettings::default() }, meminfo, "0,2-7\n");
        let values: Vec<&str> = shown_memory.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(values, ["1048576", "560352", "0", "1048576", "34359738367", "0"], "{shown_memory}");
        assert_eq!(online, "0,2,3\n");
        // No more processors than there are.
        assert_eq!(shown(&NodeSettings { cpus, ..NodeSettings::default() }, meminfo, "0-1\n").1, "0,1\n");
    }
}
