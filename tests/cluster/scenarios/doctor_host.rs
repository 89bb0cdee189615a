//! What `coracle doctor` finds on a host: namespaces of this process make it one with a full disk, small links or rules.

use std::process::Command;

use super::doctor::{finding, has};
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{LIMIT, Output, contains, docker, ensure, eventually, run};

/// The command in namespaces of its own, after a script that changes them; `None` for who is not root.
pub(super) fn apart(
    cluster: &Cluster,
    namespace: &str,
    script: &str,
    arguments: &[&str],
) -> Result<Option<Output>, String> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() != 0) {
        println!("        skipped: only root can make namespaces");
        return Ok(None);
    }
    let doctor = cluster.command(arguments);
    let mut command = Command::new("unshare");
    command.args([namespace, "sh", "-ec", &format!("{script}\nexec \"$@\""), "sh"]);
    command.arg(doctor.get_program()).args(doctor.get_args());
    command.envs(doctor.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(command, None, LIMIT).map(Some)
}

/// The engine's directory has little room left: first for images, then for files, then for anything.
pub(super) fn disk(cluster: &Cluster) -> Result<(), String> {
    let root = docker(&["info", "--format={{.DockerRootDir}}"])?;
    let looks = ["doctor", "--output=json", "--check=disk-full", "--check=disk-low", "--check=inodes-low"];
    let with = |options: &str| {
        apart(cluster, "--mount", &format!("mount -t tmpfs -o {options} none '{}'", root.trim()), &looks)
    };
    let Some(output) = with("size=2g")? else { return Ok(()) };
    let found = finding(&output, "disk-low", "MiB are free")?;
    ensure(found["command"].as_str().is_some_and(|command| command.starts_with("docker system")), || {
        found.to_string()
    })?;
    ensure(output.code == 0, || output.told())?;
    let Some(output) = with("size=8g,nr_inodes=5000")? else { return Ok(()) };
    finding(&output, "inodes-low", "more files")?;
    let Some(output) = with("size=100m")? else { return Ok(()) };
    finding(&output, "disk-full", "MiB are free")?;
    ensure(output.code == 4, || output.told())
}

/// The way out takes smaller packets than the engine's networks, and a chain drops what is forwarded.
pub(super) fn network(cluster: &Cluster) -> Result<(), String> {
    let looks = ["doctor", "--output=json", "--check=small-uplink", "--check=no-forwarding", "--check=forward-dropped"];
    // An address of the engine's bridge shows that the engine is on this host. An engine that was never restarted does not
    // name its gateway.
    let subnet = docker(&["network", "inspect", "bridge", "--format={{(index .IPAM.Config 0).Subnet}}"])?;
    let (prefix, _) = subnet.rsplit_once('.').ok_or_else(|| subnet.clone())?;
    let bridge = format!("ip link add t2 type bridge; ip address add {prefix}.1/32 dev t2\n");
    let link = "ip link add t0 mtu 576 type veth peer name t1; ip link set t1 up; ip link set t0 up\n\
        ip address add 192.0.2.1/24 dev t0; ip route add default via 192.0.2.2\necho 0 >/proc/sys/net/ipv4/ip_forward\n";
    let Some(output) = apart(cluster, "--net", &format!("{bridge}{link}"), &looks)? else { return Ok(()) };
    finding(&output, "small-uplink", "takes packets of 576 bytes")?;
    finding(&output, "no-forwarding", "sysctl net.ipv4.ip_forward=1")?;
    if Command::new("nft").arg("--version").output().is_err() {
        println!("        without nftables");
        return Ok(());
    }
    let chain = "nft add table inet guard\nnft add chain inet guard forwarded '{ type filter hook forward priority 0; policy drop; }'";
    let Some(output) = apart(cluster, "--net", &format!("{bridge}{chain}"), &looks)? else { return Ok(()) };
    let found = finding(&output, "forward-dropped", "inet guard forwarded")?;
    ensure(found["command"] == "sudo nft list table inet guard", || found.to_string())?;
    // As firewalld has it when no engine has told it of its networks.
    let chain = "nft add table inet firewalld\n\
        nft add chain inet firewalld filter_FORWARD '{ type filter hook forward priority 10; }'\n\
        nft add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited";
    let Some(output) = apart(cluster, "--net", &format!("{bridge}{chain}"), &looks)? else { return Ok(()) };
    let found = finding(&output, "forward-dropped", "filter_FORWARD` ends with `reject")?;
    ensure(found["command"] == "sudo systemctl restart docker", || found.to_string())?;
    let rule = "nft insert rule inet firewalld filter_FORWARD iifname docker0 accept";
    let Some(output) = apart(cluster, "--net", &format!("{bridge}{chain}\n{rule}"), &looks)? else { return Ok(()) };
    ensure(finding(&output, "forward-dropped", "filter_FORWARD").is_err(), || output.told())
}

/// More open files than an engine may give that cannot raise limits, as it is in many containers.
pub(super) fn limits(cluster: &Cluster) -> Result<(), String> {
    let config = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n\
        nodes: [{role: control-plane, ulimits: {nofile: 8192}}]\n";
    let file = cluster.write("limits.yaml", config)?;
    let script = "set -- setpriv --bounding-set=-sys_resource prlimit --nofile=4096:4096 \"$@\"";
    let look = ["doctor", "--for", &file, "--check=ulimit-too-high", "--output=json"];
    let Some(output) = apart(cluster, "--uts", script, &look)? else { return Ok(()) };
    ensure(output.code == 2, || output.told())?;
    has(&output, "ulimit-too-high")?;
    finding(&output, "ulimit-too-high", "limits.yaml:3:").map(drop)
}

/// A script after which the kernel seems to have this module and no other.
pub(super) fn with_modules(path: &str) -> String {
    format!(
        "mkdir -p /lib/modules\nmount -t tmpfs none /lib/modules\nmkdir \"/lib/modules/$(uname -r)\"\n\
         echo {path}: >\"/lib/modules/$(uname -r)/modules.dep\""
    )
}

/// A kernel whose modules have no IPVS.
pub(super) fn ipvs(cluster: &Cluster) -> Result<(), String> {
    if std::path::Path::new("/proc/net/ip_vs").exists() {
        println!("        this kernel has IPVS");
        return Ok(());
    }
    let config = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnetworking:\n  kubeProxyMode: ipvs\n";
    let file = cluster.write("ipvs.yaml", config)?;
    let script = with_modules("kernel/net/netfilter/nf_nat.ko");
    let look = ["doctor", "--for", &file, "--check=no-ipvs", "--output=json"];
    let Some(output) = apart(cluster, "--mount", &script, &look)? else { return Ok(()) };
    finding(&output, "no-ipvs", "no module `ip_vs`")?;
    ensure(output.code != 0, || output.told())?;
    let create = ["create", "cluster", "--config", &file];
    let Some(output) = apart(cluster, "--mount", &script, &create)? else { return Ok(()) };
    ensure(output.code == 4, || output.told())?;
    contains(&output.stderr, "kubeProxyMode: nftables")?;
    let label = format!("label=dev.coracle.cluster={}", cluster.name);
    ensure(docker(&["ps", "--all", "--quiet", "--filter", &label])?.is_empty(), || output.told())
}

/// This host's clock is two hours ahead of the engine's.
pub(super) fn clock(cluster: &Cluster) -> Result<(), String> {
    let library = super::explain::clock_ahead(cluster)?;
    let mut command = cluster.command(&["doctor", "--check=clock-apart", "--output=json"]);
    command.env("LD_PRELOAD", library);
    let output = run(command, None, LIMIT)?;
    let found = finding(&output, "clock-apart", "this host's is 1")?;
    ensure(found["command"] == "sudo timedatectl set-ntp true", || found.to_string())
}

/// Entries that kind's tools read lead nowhere, too; they are told and stay.
pub(super) fn kind_entries(cluster: &Cluster) -> Result<(), String> {
    let own = cluster.beside("kind-entries")?;
    let name = format!("kind-t-gone-{}", std::process::id());
    own.kubectl(&["config", "set-cluster", &name, "--server=https://127.0.0.1:1"])?;
    own.kubectl(&["config", "set-context", &name, &format!("--cluster={name}"), &format!("--user={name}")])?;
    let look = ["doctor", "--check=kubeconfig-leads-nowhere", "--output=json"];
    let output = own.coracle_output(&[&look[..], &["--fix", "--yes"]].concat())?;
    let found = finding(&output, "kubeconfig-leads-nowhere", &name)?;
    ensure(found["fix"].is_null(), || found.to_string())?;
    let command = found["command"].as_str().unwrap_or_default();
    ensure(command.starts_with(&format!("kubectl config delete-context {name} ")), || found.to_string())?;
    run(own.shell(command), None, LIMIT)?.ok()?;
    own.kubectl(&["config", "delete-cluster", &name])?;
    let output = own.coracle_output(&look)?;
    ensure(!output.stdout.contains(&name), || output.told())
}

/// On a running cluster: a VPN's rule takes the address of its node.
pub(super) fn astray(cluster: &Cluster) -> Result<(), String> {
    let address = cluster.address()?;
    let looks = ["doctor", "--check=network-astray", "--output=json"];
    let table = 40_000 + std::process::id() % 20_000;
    let change = |verb: &str| {
        let rule = format!("ip rule {verb} to {address} lookup {table} priority 100");
        let route = format!("ip route {verb} {address}/32 dev lo table {table}");
        let mut script = Command::new("sh");
        script.args(["-ec", &if verb == "add" { format!("{route}; {rule}") } else { format!("{rule}; {route}") }]);
        run(script, None, LIMIT)
    };
    if change("add")?.code != 0 {
        println!("        skipped: only root can add a route");
        return Ok(());
    }
    let found = cluster.coracle_output(&looks).and_then(|output| finding(&output, "network-astray", &cluster.name));
    change("del")?.ok()?;
    contains(&found?.to_string(), "ip rule add to")?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let output = cluster.coracle_output(&looks)?;
        ensure(!output.stdout.contains(&format!("`{}`", cluster.name)), || output.told())
    })
}
