//! Each piece of advice, provoked by what an engine says or by the files of a host.

use super::*;
use crate::config::{Overrides, load};
use crate::engine::fake::info;

fn cluster(nodes: &str) -> ClusterConfig {
    let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes: [{nodes}]\n");
    load(&text, "c.yaml", &Overrides::default()).unwrap()
}

/// The IDs of the failed ones, and what they say.
fn failed(checks: Vec<Check>) -> Vec<(&'static str, String)> {
    let failed = checks.into_iter().filter_map(|check| Some((check.id.row().id, check.result.err()?.in_words())));
    failed.collect()
}

fn ids(checks: Vec<Check>) -> Vec<&'static str> {
    failed(checks).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn an_engine_that_is_well_gets_no_advice() {
    let told = failed(of_engine(&info(), &cluster("{role: control-plane}")));
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn each_weakness_of_an_engine_is_told() {
    let advice = |change: fn(&mut EngineInfo), nodes: &str| {
        let mut info = info();
        change(&mut info);
        failed(of_engine(&info, &cluster(nodes)))
    };
    let one = "{role: control-plane}";
    assert_eq!(
        advice(|info| info.data_root = "/var/snap/docker/common/var-lib-docker".to_owned(), one)[0].0,
        "snap-engine"
    );
    assert_eq!(advice(|info| info.storage_driver = "vfs".to_owned(), one)[0].0, "slow-storage-driver");
    assert_eq!(advice(|info| info.cpus = 1, one)[0].0, "few-processors");
    let (id, words) =
        advice(|info| info.memory = 2 << 30, "{role: control-plane}, {role: control-plane}, {role: control-plane}")[0]
            .clone();
    assert_eq!(id, "little-memory");
    assert!(words.contains("2048 MiB") && words.contains("about 2304 MiB"), "{words}");
    assert!(advice(|info| info.memory = 2 << 30, one).is_empty());
    let half = "{role: control-plane, memory: 5Gi}, {role: worker, memory: 5Gi}";
    let (id, words) = advice(|_| {}, half)[0].clone();
    assert_eq!(id, "memory-overcommitted");
    assert!(words.contains("10240 MiB") && words.contains("8192 MiB"), "{words}");
}

#[test]
fn the_kernels_settings_are_read_below_a_root() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("var/lib/docker/x", "");
    write("proc/version", "Linux version 6.6.87.2-microsoft-standard-WSL2\n");
    write("proc/sys/fs/inotify/max_user_watches", "8192\n");
    write("proc/sys/net/ipv4/ip_forward", "0\n");
    write(
        "sys/kernel/security/apparmor/profiles",
        "/usr/sbin/mysqld (enforce)\ntcpdump (complain)\ndocker-default (enforce)\n",
    );
    let old = EngineInfo { cgroup: CgroupVersion::V1, ..info() };
    let told = failed(of_host(root.path(), &old));
    let kernel: Vec<&str> =
        told.iter().map(|(id, _)| *id).filter(|id| !id.starts_with("disk") && !id.starts_with("inodes")).collect();
    assert_eq!(kernel, ["old-cgroups", "inotify-watches", "no-forwarding", "apparmor-profile"]);
    assert!(told.iter().any(|(_, words)| words.contains("8192 inotify watches")), "{told:?}");
    let profile = told.iter().find(|(id, _)| *id == "apparmor-profile").unwrap();
    assert!(profile.1.contains("/usr/sbin/mysqld") && !profile.1.contains("tcpdump"), "{profile:?}");
    write("proc/sys/fs/inotify/max_user_watches", "524288\n");
    write("proc/sys/net/ipv4/ip_forward", "1\n");
    write("sys/kernel/security/apparmor/profiles", "docker-default (enforce)\n");
    let left = ids(of_host(root.path(), &info()));
    assert!(left.iter().all(|id| id.starts_with("disk") || id.starts_with("inodes")), "{left:?}");
    // Where a host tells nothing, nothing is said.
    assert!(failed(of_host(&root.path().join("absent"), &info())).is_empty());
}

#[test]
fn wsl_has_its_own_way_to_newer_cgroups() {
    let old = EngineInfo { cgroup: CgroupVersion::V1, ..info() };
    assert!(old_cgroups(&old, "Linux version 6.6-Microsoft").unwrap().hints()[0].contains(".wslconfig"));
    assert!(old_cgroups(&old, "Linux version 6.12").unwrap().hints()[0].contains("unified_cgroup_hierarchy"));
}

#[test]
fn clocks_that_differ_are_told_with_the_one_that_is_ahead() {
    let of = |ahead| clock(&EngineInfo { ahead, ..info() }).map(|error| error.cause().unwrap_or_default().to_owned());
    assert_eq!(of(Some(-7200)).as_deref(), Some("this host's is 120 minutes ahead"));
    assert_eq!(of(Some(601)).as_deref(), Some("the engine's is 10 minutes ahead"));
    assert_eq!((of(Some(200)), of(None)), (None, None));
}

#[test]
fn a_disk_that_fills_up_is_told_before_it_is_full() {
    assert!(low_disk("/data", LOW_DISK).is_none());
    assert_eq!(low_disk("/data", 1 << 30).unwrap().cause(), Some("1024 MiB are free"));
    assert!(low_inodes("/data", 0, 0).is_none() && low_inodes("/data", 1_000_000, LOW_INODES).is_none());
    assert!(low_inodes("/data", 1_000_000, 12).unwrap().cause().unwrap().starts_with("12 more files"));
}

#[test]
fn a_cache_that_is_not_there_yet_is_made_where_it_can_be() {
    let directory = tempfile::tempdir().unwrap();
    assert!(cache(&directory.path().join("a/b")).result.is_ok());
    // Not even root makes a directory in a file.
    std::fs::write(directory.path().join("file"), "").unwrap();
    let check = cache(&directory.path().join("file/coracle"));
    assert_eq!(check.id, Id::Cache);
    let error = check.result.unwrap_err();
    assert!(error.hints()[0].contains("XDG_CACHE_HOME"), "{error:?}");
}
