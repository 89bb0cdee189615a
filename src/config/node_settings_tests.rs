use serde_json::json;

use super::*;
use crate::config::tests::{body, problems};

const ALL: &str = "\
nodes:
- role: control-plane
  memory: 1536Mi
  cpus: 1.5
  ulimits: {nofile: 65536, memlock: unlimited, nproc: {soft: 1024, hard: unlimited}}
  sysctls: {net.core.somaxconn: 4096, kernel.sem: '250 32000 32 128'}
  env: {GODEBUG: netdns=go, EMPTY: ''}
  devices: [/dev/ttyUSB0, nvidia.com/gpu=all]
  hostAliases: [{ip: 10.0.0.9, hostnames: [git.corp.example, git]}]
  kubelet: {maxPods: 20}
";

#[test]
fn a_node_says_what_its_container_gets() {
    let cluster = body(ALL).unwrap();
    let settings = &cluster.nodes[0].settings;
    assert_eq!((settings.memory, settings.cpus), (Some(Memory(1536 << 20)), Some(Cpus(1500))));
    assert_eq!(settings.ulimits["nproc"], Ulimit { soft: 1024, hard: UNLIMITED });
    assert_eq!(settings.sysctls["net.core.somaxconn"], "4096");
    assert_eq!(settings.env["EMPTY"], "");
    assert_eq!(settings.devices.iter().filter(|device| is_cdi(device)).count(), 1);
    assert_eq!(settings.host_aliases[0].hostnames, ["git.corp.example", "git"]);
    assert_eq!(settings.kubelet["maxPods"], json!(20));
    // A control plane keeps the configuration as text, and later commands read it.
    let again = super::super::load(&cluster.to_text().unwrap(), "c.yaml", &super::super::Overrides::default()).unwrap();
    assert_eq!(again, cluster);
}

#[test]
fn quantities_are_written_as_kubernetes_writes_them() {
    let memory = [(1 << 30, "1Gi"), (1536 << 20, "1536Mi"), (1_500_000_000, "1500000000"), (5 << 10, "5Ki")];
    for (bytes, text) in memory {
        assert_eq!(Memory(bytes).to_string(), text);
    }
    for (milli, text) in [(1500, "1.5"), (2000, "2"), (250, "0.25"), (1001, "1.001")] {
        assert_eq!(Cpus(milli).to_string(), text);
    }
}

#[test]
fn every_mistake_in_a_nodes_settings_is_told_at_its_place() {
    let text = "\
nodes:
- role: control-plane
  memory: 512Mi
  cpus: 0
  ulimits: {nofiles: 5, nofile: unlimited, core: lots, nproc: {soft: 9, hard: 8}, stack: {soft: 1}}
  sysctls: {vm.max_map_count: 262144, net.ipv4.ip_forward: 0, net.core.rmem_max: 1, net/core/x: 1, a b: 1, net.x: []}
  env: {http_proxy: x, CORACLE_X: y, 1A: z, N: 1, PATH: /bin}
  devices: [ttyUSB0, /dev/../sda, nvidia.com/gpu, /dev/fuse, /dev/fuse]
  hostAliases: [{ip: 10.0.0, hostnames: [UP]}, {ip: 10.0.0.1}, {ip: '::1', hostnames: []}, {ip: '::1', hostnames: [localhost]}]
  kubelet: {cgroupDriver: systemd, featureGates: {A: true}}
- role: worker
  memory: 2GB
  cpus: two
durability: fast
";
    let found = problems(text);
    let expected = [
        "c.yaml:5:11 a control plane needs at least 768Mi of memory, not 512Mi",
        "c.yaml:6:9 the `cpus` of a control plane must be between 1 and 1000, not 0",
        "c.yaml:7:13 there is no limit `nofiles`; did you mean `nofile`?",
        "c.yaml:7:33 `nofile` must be between 1024 and 1048576",
        "c.yaml:7:50 `core` must be a number, `unlimited`, or `soft` and `hard`, not the string `lots`",
        "c.yaml:7:63 the soft limit of `nproc` is above the hard one",
        "c.yaml:7:90 `stack` needs both `soft` and `hard`",
        "c.yaml:8:13 `vm.max_map_count` is a parameter of the whole host and not of a container; set it on the host: `sudo sysctl -w vm.max_map_count=…`",
        "c.yaml:8:39 `net.ipv4.ip_forward` is set by coracle and cannot be changed",
        "c.yaml:8:63 `net.core.rmem_max` is a parameter of the whole host and not of a container; set it on the host: `sudo sysctl -w net.core.rmem_max=…`",
        "c.yaml:8:85 write `net/core/x` with dots: `net.core.x`",
        "c.yaml:8:100 `a b` is not a kernel parameter such as `net.core.somaxconn`",
        "c.yaml:8:115 `net.x` must be a number or a string, not a list",
        "c.yaml:9:9 `http_proxy` cannot be set here: proxy settings come from the environment of `create cluster`",
        "c.yaml:9:24 `CORACLE_X` cannot be set here: coracle's own variables begin like this",
        "c.yaml:9:38 `1A` is not the name of an environment variable",
        "c.yaml:9:48 `N` must be a string (write `\"1\"`), not the number `1`",
        "c.yaml:9:51 `PATH` cannot be set here: the node image sets it",
        "c.yaml:10:13 `ttyUSB0` is neither a device below `/dev` nor a CDI name such as `nvidia.com/gpu=all`",
        "c.yaml:10:22 `/dev/../sda` is neither a device below `/dev` nor a CDI name such as `nvidia.com/gpu=all`",
        "c.yaml:10:35 `nvidia.com/gpu` is neither a device below `/dev` nor a CDI name such as `nvidia.com/gpu=all`",
        "c.yaml:10:62 `/dev/fuse` is already listed",
    ];
    assert_eq!(&found[..expected.len()], expected, "{found:#?}");
    let rest = found[expected.len()..].join("\n");
    for part in [
        "`UP` must be a lower-case domain",
        "c.yaml:11:48 an alias needs both `ip` and `hostnames`",
        "an alias needs at least one name in `hostnames`",
        "`localhost` is a name that every node has already",
        "c.yaml:12:13 `cgroupDriver` is set by coracle",
        "`featureGates` is set by coracle; use `featureGates`",
        "c.yaml:14:11 `memory` must be a quantity such as `2Gi` or `1500M`, not the string `2GB`",
        "c.yaml:15:9 `cpus` must be a number of processors such as `2` or `1.5`, not the string `two`",
        "c.yaml:16:13 `durability` must be one of `safe`, `ephemeral`, not `fast`",
    ] {
        assert!(rest.contains(part), "{part}: {found:#?}");
    }
}
