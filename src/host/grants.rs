//! Whether the engine can give to nodes what a configuration asks for.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::config::{ClusterConfig, Cpus, Memory, NodeSettings, UNLIMITED, Ulimit, is_cdi};
use crate::engine::spec::EngineInfo;
use crate::host::check::Found;
use crate::host::checks::Id;
use crate::host::limits;

/// What the engine would refuse, or ignore. `here`: it has the same files as this process.
pub fn problems(info: &EngineInfo, cluster: &ClusterConfig, here: bool) -> Vec<Found> {
    let mut problems = Vec::new();
    for (index, node) in cluster.nodes.iter().enumerate() {
        let settings = &node.settings;
        let mut add = |id, field: &str, message: Option<String>| {
            let place = format!("nodes[{index}].{field}");
            problems.extend(message.map(|message| (id, cluster.places.problem(&place, message))));
        };
        add(Id::MemoryTooLarge, "memory", settings.memory.and_then(|memory| too_much_memory(info, memory)));
        add(Id::CpusTooMany, "cpus", settings.cpus.and_then(|cpus| too_many_cpus(info, cpus)));
        for (name, limit) in settings.ulimits.iter().filter(|_| here) {
            let most = limits::of_processes(limits::privilege(true)).get(name).copied();
            add(Id::UlimitTooHigh, &format!("ulimits.{name}"), most.and_then(|most| too_high(name, *limit, most)));
        }
        for (item, device) in devices(settings) {
            let message = if is_cdi(device) { no_cdi(info, device) } else { no_device(device).filter(|_| here) };
            add(Id::DeviceMissing, &format!("devices[{item}]"), message);
        }
    }
    problems
}

fn devices(settings: &NodeSettings) -> impl Iterator<Item = (usize, &str)> {
    settings.devices.iter().map(String::as_str).enumerate()
}

fn too_much_memory(info: &EngineInfo, memory: Memory) -> Option<String> {
    if !info.grants.memory {
        return Some("this engine cannot limit memory; its kernel has no memory cgroup".to_owned());
    }
    let most = u64::try_from(info.memory).ok().filter(|most| *most > 0 && memory.0 > *most)?;
    // In whole MiB, because a machine never has a round number of bytes.
    let most = Memory(most >> 20 << 20);
    Some(format!("{memory} is more memory than the engine's host has, which is {most}"))
}

fn too_many_cpus(info: &EngineInfo, cpus: Cpus) -> Option<String> {
    if !info.grants.cpus {
        return Some("this engine cannot limit processor time; its kernel has no CFS quota".to_owned());
    }
    let most = u64::try_from(info.cpus).ok().filter(|most| *most > 0 && cpus.0 > *most * 1000)?;
    Some(format!("{cpus} processors are more than the engine's host has, which is {most}"))
}

/// What is wrong with a limit that an engine without `CAP_SYS_RESOURCE` would silently lower.
fn too_high(name: &str, limit: Ulimit, most: i64) -> Option<String> {
    let is_higher = most != UNLIMITED && (limit.hard == UNLIMITED || limit.hard > most);
    is_higher.then(|| format!("`{name}` can be at most {most}: this engine cannot raise limits above its own"))
}

fn no_cdi(info: &EngineInfo, device: &str) -> Option<String> {
    let known = &info.grants.cdi_devices;
    match &info.grants.cdi {
        None => Some(format!(
            "`{device}` is a CDI name, for which the engine must be Docker 25 or later; this one is {}",
            info.version
        )),
        Some(directories) if directories.is_empty() => Some(format!(
            "`{device}` is a CDI name, and CDI is off in this engine; set `\"features\": {{\"cdi\": true}}` in \
             /etc/docker/daemon.json and restart Docker"
        )),
        Some(directories) if !known.is_empty() && !known.iter().any(|known| known == device) => Some(format!(
            "the engine has no CDI device `{device}`; it found {} in {}",
            known.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", "),
            directories.join(" and ")
        )),
        Some(_) => None,
    }
}

/// What is wrong with a device of this host. Where this user may not look, the engine may.
fn no_device(path: &str) -> Option<String> {
    match Path::new(path).metadata() {
        Ok(found) if found.is_dir() || found.file_type().is_char_device() || found.file_type().is_block_device() => {
            None
        }
        Ok(_) => Some(format!("`{path}` is not a device")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Some(format!("`{path}` does not exist on this host"))
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load};
    use crate::engine::fake::info;

    const TEXT: &str = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes:\n- role: control-plane\n  memory: 9Gi\n  \
                        cpus: 2.5\n- role: worker\n  memory: 8Gi\n  cpus: 2\n  devices:\n  - /dev/null\n  - /dev/absent\n  \
                        - vendor.com/class=a\n";

    fn told(change: impl Fn(&mut EngineInfo), here: bool) -> Vec<String> {
        let mut info = info();
        change(&mut info);
        let problems = problems(&info, &load(TEXT, "c.yaml", &Overrides::default()).unwrap(), here);
        problems.iter().map(|(_, problem)| format!("{} {}", problem.place, problem.message)).collect()
    }

    #[test]
    fn what_the_engine_cannot_give_is_told_with_its_line() {
        assert_eq!(
            told(|_| {}, true),
            [
                "c.yaml:5:11 9Gi is more memory than the engine's host has, which is 8Gi",
                "c.yaml:6:9 2.5 processors are more than the engine's host has, which is 2",
                "c.yaml:12:5 `/dev/absent` does not exist on this host",
                "c.yaml:13:5 `vendor.com/class=a` is a CDI name, for which the engine must be Docker 25 or later; this one is 20.10.24",
            ]
        );
    }

    /// Where the engine can raise limits, no [`Id::UlimitTooHigh`] can be provoked.
    #[test]
    fn a_limit_above_what_the_engine_can_give_is_told() {
        let limit = |hard| Ulimit { soft: 1024, hard };
        assert!(too_high("nofile", limit(4096), 1024).unwrap().contains("`nofile` can be at most 1024"));
        assert!(too_high("nofile", limit(UNLIMITED), 1024).is_some());
        assert!(too_high("nofile", limit(1024), 1024).is_none() && too_high("nproc", limit(4096), UNLIMITED).is_none());
    }

    #[test]
    fn an_engine_that_would_ignore_a_limit_is_refused() {
        let told = told(|info| info.grants = crate::engine::spec::Grants::default(), false);
        assert_eq!(told.iter().filter(|told| told.contains("this engine cannot limit memory")).count(), 2, "{told:?}");
        assert_eq!(told.iter().filter(|told| told.contains("this engine cannot limit processor time")).count(), 2);
    }

    #[test]
    fn cdi_is_on_and_has_the_device() {
        let with = |directories: &[&str], devices: &[&str]| {
            let change = |info: &mut EngineInfo| {
                info.grants.cdi = Some(directories.iter().map(|text| (*text).to_owned()).collect());
                info.grants.cdi_devices = devices.iter().map(|text| (*text).to_owned()).collect();
            };
            told(change, false).into_iter().filter(|told| told.contains("CDI")).collect::<Vec<_>>()
        };
        assert!(with(&[], &[])[0].contains("CDI is off in this engine"));
        assert!(with(&["/etc/cdi"], &["vendor.com/class=b"])[0].ends_with("it found `vendor.com/class=b` in /etc/cdi"));
        assert!(with(&["/etc/cdi"], &["vendor.com/class=a"]).is_empty());
        // Docker before 28.2 does not say what it found.
        assert!(with(&["/etc/cdi"], &[]).is_empty());
    }
}
