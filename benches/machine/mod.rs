//! What both benchmarks of `create` read of the machine and of their command line.

use std::path::Path;
use std::process::Command;

/// Anonymous and kernel memory in MiB, or CPU seconds, of all node containers, from their cgroups (v1 and v2).
pub(crate) fn usage(what: &str) -> f64 {
    let output = Command::new("docker").args(["ps", "--no-trunc", "--quiet", "--filter", "name=t-bench-"]).output();
    let ids = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    ids.lines().map(|id| if what == "memory" { memory(id) } else { cpu(id) }).sum()
}

fn first(paths: &[String]) -> String {
    paths.iter().find_map(|path| std::fs::read_to_string(Path::new(path)).ok()).unwrap_or_default()
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_default()
}

fn memory(id: &str) -> f64 {
    let v1 = format!("/sys/fs/cgroup/memory/docker/{id}");
    let v2 = [
        format!("/sys/fs/cgroup/system.slice/docker-{id}.scope/memory.stat"),
        format!("/sys/fs/cgroup/docker/{id}/memory.stat"),
    ];
    let stat = first(&[format!("{v1}/memory.stat")]);
    let bytes = if stat.is_empty() {
        let stat = first(&v2);
        field(&stat, "anon") + field(&stat, "kernel")
    } else {
        let kernel: f64 = first(&[format!("{v1}/memory.kmem.usage_in_bytes")]).trim().parse().unwrap_or_default();
        field(&stat, "total_rss") + kernel
    };
    bytes / f64::from(1 << 20)
}

fn cpu(id: &str) -> f64 {
    let v1 = first(&[
        format!("/sys/fs/cgroup/cpuacct/docker/{id}/cpuacct.usage"),
        format!("/sys/fs/cgroup/cpu,cpuacct/docker/{id}/cpuacct.usage"),
    ]);
    if let Ok(nanoseconds) = v1.trim().parse::<f64>() {
        return nanoseconds / 1e9;
    }
    let v2 = first(&[
        format!("/sys/fs/cgroup/system.slice/docker-{id}.scope/cpu.stat"),
        format!("/sys/fs/cgroup/docker/{id}/cpu.stat"),
    ]);
    field(&v2, "usage_usec") / 1e6
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn option(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    let place = arguments.iter().position(|argument| argument == name)?;
    arguments.get(place + 1).cloned()
}

pub(crate) fn number(name: &str) -> Option<usize> {
    option(name)?.parse().ok()
}
