//! What works, and may cause trouble: what the engine says of itself, and the settings of this host's kernel.

use std::path::Path;

use rustix::fs::{Access, StatVfsMountFlags};

use crate::config::{ClusterConfig, Role};
use crate::engine::spec::{CgroupVersion, EngineInfo};
use crate::error::{Error, FREE_DISK, OTHER_CACHE};
use crate::host::check::{Check, odd};
use crate::host::checks::Id;
use crate::host::firewall;

/// What a control plane and a worker use by themselves, MiB: twice what was measured a minute after `create`.
const CONTROL_PLANE: u64 = 768;
const WORKER: u64 = 384;
/// Docker's snap keeps its data here.
const SNAP: &str = "/var/snap/";
/// Storage drivers that copy what they should share, or that engines no longer have.
const SLOW_DRIVERS: [&str; 3] = ["vfs", "devicemapper", "aufs"];
/// Free bytes on the engine's disk below which images may not fit.
const LOW_DISK: u64 = 4 << 30;
/// Free inodes below which images may not fit: a node image has some 20,000 files.
const LOW_INODES: u64 = 50_000;
/// Fewer watches were the kernel's default for small machines.
const FEW_WATCHES: u64 = 32_768;
/// How many seconds clocks may differ.
const MAX_APART: u64 = 5 * 60;
/// Programs that images often run, and that distributions bring AppArmor profiles for.
const CONFINED: [&str; 8] = ["mysqld", "mariadbd", "named", "dnsmasq", "slapd", "tcpdump", "ntpd", "dhclient"];

/// Advice about the engine, for this cluster.
pub fn of_engine(info: &EngineInfo, cluster: &ClusterConfig) -> Vec<Check> {
    vec![
        Check::unless(Id::SnapEngine, snap(info)),
        Check::unless(Id::LittleMemory, memory(info, cluster)),
        Check::unless(Id::ClockApart, clock(info)),
        Check::unless(Id::FewProcessors, (info.cpus == 1).then(|| one_processor(info))),
        Check::unless(Id::StorageDriver, storage_driver(info)),
        Check::unless(Id::MemoryOvercommitted, overcommitted(info, cluster)),
    ]
}

/// Advice about the engine's host, whose files are below `root`.
pub fn of_host(root: &Path, info: &EngineInfo) -> Vec<Check> {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let disk = rustix::fs::statvfs(root.join(info.data_root.trim_start_matches('/'))).ok();
    let free = disk.as_ref().and_then(|disk| low_disk(&info.data_root, disk.f_bavail * disk.f_frsize));
    let inodes = disk.as_ref().and_then(|disk| low_inodes(&info.data_root, disk.f_files, disk.f_favail));
    vec![
        Check::unless(Id::OldCgroups, old_cgroups(info, &text("proc/version"))),
        Check::unless(Id::DiskLow, free),
        Check::unless(Id::InodesLow, inodes),
        Check::unless(Id::InotifyWatches, watches(&text("proc/sys/fs/inotify/max_user_watches"))),
        Check::unless(Id::NoForwarding, forwarding(&text("proc/sys/net/ipv4/ip_forward"))),
        Check::unless(Id::ForwardDropped, firewall::check()),
        Check::unless(Id::AppArmor, confined(&text("sys/kernel/security/apparmor/profiles"))),
    ]
}

/// A warning if the engine's clock and this host's differ by more than the minutes that a slow answer may take.
pub fn clock(info: &EngineInfo) -> Option<Error> {
    let ahead = info.ahead.filter(|seconds| seconds.unsigned_abs() > MAX_APART)?;
    let (minutes, who) = (ahead.unsigned_abs() / 60, if ahead > 0 { "the engine's" } else { "this host's" });
    Some(
        odd(
            "the clocks of this host and of the engine's host differ",
            "set both: `sudo timedatectl set-ntp true`; a virtual machine that slept may need a restart",
        )
        .because(format!("{who} is {minutes} minutes ahead")),
    )
}

fn snap(info: &EngineInfo) -> Option<Error> {
    info.data_root.starts_with(SNAP).then(|| {
        odd(
            "the engine is Docker's snap",
            "if mounts are empty, install Docker from https://docs.docker.com/engine/install",
        )
        .because("it sees neither `/tmp` nor hidden directories of this host")
    })
}

fn memory(info: &EngineInfo, cluster: &ClusterConfig) -> Option<Error> {
    let memory_of = |role| if role == Role::ControlPlane { CONTROL_PLANE } else { WORKER };
    let needed: u64 = cluster.nodes.iter().map(|node| memory_of(node.role)).sum();
    let has = u64::try_from(info.memory).ok().filter(|bytes| *bytes > 0)? >> 20;
    (has < needed).then(|| {
        odd(
            format!("the engine's host has {has} MiB of memory"),
            "give the engine more (Docker Desktop: Settings, Resources), or use fewer nodes",
        )
        .because(format!("the nodes of this cluster use about {needed} MiB by themselves"))
    })
}

fn one_processor(info: &EngineInfo) -> Error {
    let hint = "`coracle create cluster --wait 10m` waits longer";
    odd("the engine's host has one processor", hint).because(format!("{} runs everything on it", info.operating_system))
}

fn storage_driver(info: &EngineInfo) -> Option<Error> {
    let driver = info.storage_driver.as_str();
    SLOW_DRIVERS.contains(&driver).then(|| {
        odd(
            format!("the engine uses the storage driver `{driver}`"),
            "set `\"storage-driver\": \"overlay2\"` in /etc/docker/daemon.json and restart Docker, after which its images and containers are not available",
        )
        .because("it copies the whole image for each node")
    })
}

fn overcommitted(info: &EngineInfo, cluster: &ClusterConfig) -> Option<Error> {
    let limits = cluster.nodes.iter().filter_map(|node| node.settings.memory);
    let sum: u64 = limits.map(|memory| memory.0).sum();
    let has = u64::try_from(info.memory).ok().filter(|bytes| *bytes > 0 && sum > *bytes)?;
    Some(
        odd(
            format!("the nodes together may use {} MiB of memory", sum >> 20),
            "set less `memory` for the nodes, or use fewer of them",
        )
        .because(format!("the engine's host has {} MiB", has >> 20)),
    )
}

fn old_cgroups(info: &EngineInfo, kernel: &str) -> Option<Error> {
    let hint = if kernel.to_lowercase().contains("microsoft") {
        "set `kernelCommandLine = cgroup_no_v1=all` below `[wsl2]` in .wslconfig, then `wsl --shutdown`"
    } else {
        "boot the host with the kernel parameter `systemd.unified_cgroup_hierarchy=1` when it suits you"
    };
    (info.cgroup == CgroupVersion::V1)
        .then(|| odd("the engine uses cgroup v1", hint).because("it works, but Kubernetes will drop support for it"))
}

fn low_disk(data_root: &str, free: u64) -> Option<Error> {
    (free < LOW_DISK).then(|| {
        odd(format!("the engine's disk at {data_root} is nearly full"), FREE_DISK)
            .because(format!("{} MiB are free", free >> 20))
    })
}

/// Some file systems have no inodes to run out of, and say 0.
fn low_inodes(data_root: &str, all: u64, free: u64) -> Option<Error> {
    (all > 0 && free < LOW_INODES).then(|| {
        odd(format!("the engine's disk at {data_root} has hardly any inodes left"), FREE_DISK)
            .because(format!("{free} more files can be created"))
    })
}

fn watches(limit: &str) -> Option<Error> {
    let limit: u64 = limit.trim().parse().ok().filter(|limit| *limit < FEW_WATCHES)?;
    Some(
        odd(
            "programs in pods may watch few files",
            "`sudo sysctl fs.inotify.max_user_watches=524288` (in /etc/sysctl.d it survives a reboot)",
        )
        .because(format!("the kernel allows {limit} inotify watches per user")),
    )
}

fn forwarding(value: &str) -> Option<Error> {
    (value.trim() == "0").then(|| {
        odd("nodes and pods reach nothing outside", "`sudo sysctl net.ipv4.ip_forward=1`")
            .because("the kernel of this host does not forward packets")
    })
}

/// Profiles are tied to paths, which are the same in pods.
fn confined(profiles: &str) -> Option<Error> {
    let enforced = profiles.lines().filter_map(|line| line.strip_suffix(" (enforce)"));
    let program = |profile: &str| CONFINED.contains(&profile.rsplit('/').next().unwrap_or(profile));
    let found: Vec<&str> = enforced.filter(|profile| program(profile)).collect();
    (!found.is_empty()).then(|| {
        odd(
            format!("AppArmor profiles of this host confine programs in pods: {}", found.join(", ")),
            format!("if one of them fails in a pod: `sudo aa-disable {}`", found.join(" ")),
        )
        .because("a profile is for a path, which is the same in a pod")
    })
}

/// What is wrong with coracle's cache, if something is.
pub fn cache(directory: &Path) -> Check {
    // It may not be there yet.
    let place = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let cause = if rustix::fs::access(place, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        Some(format!("`{}` cannot be written", place.display()))
    } else {
        let flags = rustix::fs::statvfs(place).map(|disk| disk.f_flag);
        let is_data = flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::NOEXEC));
        is_data.then(|| format!("no program can be run in `{}` (`noexec`)", place.display()))
    };
    let error = |cause: String| odd("coracle's cache cannot be used", OTHER_CACHE).because(cause);
    Check::unless(Id::Cache, cause.map(error))
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
