//! `coracle doctor` on a real engine: what it finds, and what it mends.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Group;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, json};
use crate::harness::run::{LIMIT, Output, contains, docker, ensure, eventually, run, start};

/// How long it may take on a machine three times slower than one where it takes two seconds.
const QUICK: Duration = Duration::from_secs(6);

/// Without a cluster.
pub const DOCTOR: Group = Group {
    name: "doctor",
    environment: &[],
    create: usual,
    together: &[],
    scenarios: &[
        ("engine-absent", engine_absent),
        ("for", for_file),
        ("for-kind", for_file_of_kind),
        ("inotify", inotify),
        ("disk", super::doctor_host::disk),
        ("network", super::doctor_host::network),
        ("limits", super::doctor_host::limits),
        ("ipvs", super::doctor_host::ipvs),
        ("clock", super::doctor_host::clock),
        ("kind-entries", super::doctor_host::kind_entries),
        ("leftovers", leftovers),
        ("credential-helper", credential_helper),
    ],
};

#[expect(clippy::needless_pass_by_value, reason = "an error is handed over by `map_err`")]
fn told(error: std::io::Error) -> String {
    error.to_string()
}

/// The IDs of the checks that failed.
fn failed(output: &Output) -> Result<Vec<String>, String> {
    let value = json(&output.stdout)?;
    let checks = value["checks"].as_array().cloned().unwrap_or_default();
    ensure(!checks.is_empty(), || output.told())?;
    let failed = checks.iter().filter(|check| check["result"] != "ok");
    Ok(failed.filter_map(|check| check["id"].as_str().map(str::to_owned)).collect())
}

pub(super) fn has(output: &Output, id: &str) -> Result<(), String> {
    let failed = failed(output)?;
    ensure(failed.iter().any(|other| other == id), || format!("`{id}` is not told: {}", output.told()))
}

/// The finding of this ID that says this.
pub(super) fn finding(output: &Output, id: &str, part: &str) -> Result<Value, String> {
    let value = json(&output.stdout)?;
    let checks = value["checks"].as_array().cloned().unwrap_or_default();
    let found = checks.into_iter().find(|check| check["id"] == id && check.to_string().contains(part));
    found.ok_or_else(|| format!("no `{id}` with `{part}`: {}", output.told()))
}

/// It takes a moment, and the text counts what is well.
fn usual(cluster: &Cluster) -> Result<(), String> {
    let began = Instant::now();
    let output = cluster.coracle_output(&["doctor"])?;
    let took = began.elapsed();
    println!("        it took {:.2} s", took.as_secs_f64());
    ensure(took < QUICK, || format!("it took {took:?}"))?;
    contains(&output.stdout, " checks passed")?;
    let output = cluster.coracle_output(&["doctor", "--output=json"])?;
    for check in json(&output.stdout)?["checks"].as_array().into_iter().flatten().filter(|one| one["result"] != "ok") {
        ensure(check["help"][0].is_string() && check["message"].is_string(), || format!("{check}"))?;
    }
    let wrong = cluster.coracle_output(&["doctor", "--check=port-take"])?;
    ensure(wrong.code == 2, || wrong.told())?;
    contains(&wrong.stderr, "did you mean `port-taken`?")
}

fn engine_absent(cluster: &Cluster) -> Result<(), String> {
    let mut command = cluster.command(&["doctor"]);
    command.env("DOCKER_HOST", "unix:///nonexistent.sock");
    let output = run(command, None, LIMIT)?;
    ensure(output.code == 4, || output.told())?;
    contains(&output.stdout, "error engine-unreachable: ")?;
    contains(&output.stdout, "  do: ")
}

/// Everything that a configuration needs and this host does not have, each with its place.
fn for_file(cluster: &Cluster) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(told)?;
    let port = listener.local_addr().map_err(told)?.port();
    let network = format!("{}doctor-{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("network", &network);
    // Another run of these tests may have left its own.
    let subnet = format!("10.213.{}.0/24", std::process::id() % 250);
    docker(&["network", "create", &format!("--subnet={subnet}"), &network])?;
    let config = format!(
        "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnetworking: {{nodeSubnet: {subnet}, apiServerPort: {port}}}\n\
         nodes:\n- role: control-plane\n  memory: 9000Gi\n  cpus: 900\n  devices: [/dev/absent]\n  \
         extraMounts: [{{hostPath: /absent-on-this-host, containerPath: /a}}]\n  \
         extraPortMappings: [{{containerPort: 80, hostPort: 0, listenAddress: 192.0.2.1}}]\n"
    );
    let file = cluster.write("doctor.yaml", &config)?;
    let output = cluster.coracle_output(&["doctor", "--for", &file, "--output=json"])?;
    ensure([2, 4].contains(&output.code), || output.told())?;
    for id in ["memory-too-large", "cpus-too-many", "device-missing", "mount-missing", "address-absent"] {
        finding(&output, id, "doctor.yaml:")?;
    }
    finding(&output, "port-taken", &format!("port {port} on 127.0.0.1 is taken"))?;
    finding(&output, "subnet-in-use", &network)?;
    docker(&["network", "rm", &network])?;
    drop(listener);
    // `create` refuses the same.
    let output = cluster.coracle_output(&["create", "cluster", "--config", &file])?;
    ensure(output.code == 2, || output.told())?;
    contains(&output.stderr, "5 problems")
}

/// A file of kind is read as `create` reads it.
fn for_file_of_kind(cluster: &Cluster) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(told)?;
    let port = listener.local_addr().map_err(told)?.port();
    let config = format!(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n  extraPortMappings:\n  \
         - {{containerPort: 80, hostPort: {port}, listenAddress: 127.0.0.1}}\n"
    );
    let file = cluster.write("kind.yaml", &config)?;
    let output = cluster.coracle_output(&["doctor", "--for", &file, "--check=port-taken", "--output=json"])?;
    ensure(output.code == 4, || output.told())?;
    has(&output, "port-taken")?;
    drop(listener);
    let output = cluster.coracle_output(&["doctor", "--for", &file, "--check=port-taken"])?;
    ensure(output.code == 0, || output.told())?;
    ensure(output.stdout == "1 check passed\n", || output.told())
}

/// The command, where the kernel says that it allows only 3 inotify instances.
fn with_few_instances(cluster: &Cluster, limit: &str, arguments: &[&str]) -> Command {
    let doctor = cluster.command(arguments);
    let mut command = Command::new("unshare");
    let mount = "mount --bind $0 /proc/sys/fs/inotify/max_user_instances && exec \"$@\"";
    command.args(["--mount", "sh", "-c", mount, limit]).arg(doctor.get_program()).args(doctor.get_args());
    command.envs(doctor.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn inotify(cluster: &Cluster) -> Result<(), String> {
    if std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() != 0) {
        println!("        skipped: only root can make a mount namespace");
        return Ok(());
    }
    let limit = cluster.write("instances", "3\n")?;
    let doctor = ["doctor", "--check=inotify-limit", "--check=inotify-tight"];
    let output = run(with_few_instances(cluster, &limit, &doctor), None, LIMIT)?;
    ensure(output.code == 4, || output.told())?;
    contains(&output.stdout, "error inotify-limit: ")?;
    contains(&output.stdout, "do: `sudo sysctl fs.inotify.max_user_instances=")?;
    contains(&output.stderr, "`coracle doctor --fix`")?;
    // No one can be asked.
    let fix = [&doctor[..], &["--fix"]].concat();
    let output = run(with_few_instances(cluster, &limit, &fix), None, LIMIT)?;
    ensure(output.code == 4, || output.told())?;
    contains(&output.stderr, "Nothing was changed")?;
    ensure(std::fs::read_to_string(&limit).map_err(told)? == "3\n", || "it was changed".to_owned())?;
    let fix = [&fix[..], &["--yes"]].concat();
    let output = run(with_few_instances(cluster, &limit, &fix), None, LIMIT)?;
    ensure(output.code == 0, || output.told())?;
    contains(&output.stdout, "Afterwards:\n2 checks passed")?;
    let raised: u32 = std::fs::read_to_string(&limit).map_err(told)?.trim().parse().map_err(|_| output.told())?;
    ensure(raised >= 512, || format!("the limit is {raised}"))
}

/// What a command left that was killed is found, and removed; what someone may need is only told.
fn leftovers(cluster: &Cluster) -> Result<(), String> {
    let name = format!("{}doctor-left-{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("volume", &name);
    let label = format!("--label=dev.coracle.cluster={name}");
    docker(&["volume", "create", &label, &name])?;
    let look = ["doctor", "--check=cluster-unfinished", "--check=leftovers", "--output=json"];
    let output = cluster.coracle_output(&look)?;
    let found = finding(&output, "cluster-unfinished", &name)?;
    ensure(found["command"] == format!("coracle delete cluster --name {name}"), || format!("{found}"))?;
    ensure(found["fix"].is_null() && output.code == 0, || output.told())?;
    docker(&["volume", "rm", &name])?;

    // One whose process is known to have ended: it is killed as it is dropped.
    let killed = format!("{name}-killed");
    cleanup::register(&killed, &cluster.home.join("killed"));
    let create = start(cluster.command(&["create", "cluster", &killed]), None)?;
    let filter = format!("--filter=label=dev.coracle.cluster={killed}");
    eventually(LIMIT, || {
        let made = docker(&["ps", "--all", "--quiet", &filter])?;
        ensure(!made.trim().is_empty(), || "no container yet".to_owned())
    })?;
    drop(create);
    let output = cluster.coracle_output(&look)?;
    finding(&output, "leftovers", &killed)?;
    let fix = [&look[..], &["--fix", "--yes"]].concat();
    let output = cluster.coracle_output(&fix)?;
    contains(&json(&output.stdout)?["fixed"].to_string(), &killed)?;
    let left = docker(&["ps", "--all", "--quiet", &filter])?;
    ensure(left.trim().is_empty(), || format!("{left} is left"))
}

/// A helper that the Docker configuration names and that is not installed, as after Docker Desktop.
fn credential_helper(cluster: &Cluster) -> Result<(), String> {
    let directory = cluster.home.join("docker-config");
    std::fs::create_dir_all(&directory).map_err(told)?;
    let look = |config: &str| {
        std::fs::write(directory.join("config.json"), config).map_err(told)?;
        let mut command = cluster.command(&["doctor", "--output=json"]);
        command.env("DOCKER_CONFIG", &directory);
        run(command, None, LIMIT)
    };
    finding(&look(r#"{"credsStore": "t-absent"}"#)?, "credential-helper", "docker-credential-t-absent")?;
    finding(&look("{")?, "docker-config", "not valid JSON").map(drop)
}

/// On the group `one`: entries of the kubeconfig that lead nowhere or to an earlier cluster are mended, the rest stays.
pub(super) fn kubeconfig(cluster: &Cluster) -> Result<(), String> {
    let own = cluster.beside("doctor")?;
    let (gone, name) = (format!("coracle-t-gone-{}", std::process::id()), format!("coracle-{}", cluster.name));
    let text = || std::fs::read_to_string(own.kubeconfig()).map_err(told);
    let checks = ["--check=kubeconfig-leads-nowhere", "--check=kubeconfig-stale", "--check=certificate-ends"];
    let doctor = |more: &[&str]| own.coracle_output(&[&["doctor"], &checks[..], more].concat());
    let output = doctor(&[])?;
    ensure(output.stdout == "3 checks passed\n" && output.code == 0, || output.told())?;

    own.kubectl(&["config", "set-cluster", &gone, "--server=https://127.0.0.1:1"])?;
    own.kubectl(&["config", "set-context", &gone, &format!("--cluster={gone}"), &format!("--user={gone}")])?;
    let authority = own.write("authority", "another\n")?;
    let option = format!("--certificate-authority={authority}");
    own.kubectl(&["config", "set-cluster", &name, &option, "--embed-certs=true"])?;
    ensure(own.kubectl(&["get", "nodes"]).is_err(), || "the authority does not count".to_owned())?;
    let before = text()?;
    let output = doctor(&["--output=json"])?;
    finding(&output, "kubeconfig-leads-nowhere", &gone)?;
    finding(&output, "kubeconfig-stale", &name)?;
    let output = doctor(&["--fix"])?;
    contains(&output.stderr, "Nothing was changed")?;
    ensure(text()? == before, || "something was changed".to_owned())?;
    let output = doctor(&["--fix", "--yes"])?;
    contains(&output.stdout, "Afterwards:\n3 checks passed")?;
    let after = text()?;
    // kubectl has removed the comments above; the entry of someone else is there.
    let is_right = !after.contains(&gone) && after.contains("https://foreign.example:6443");
    ensure(is_right, || "an entry is missing, or left".to_owned())?;
    own.kubectl(&["get", "nodes"]).map(drop)
}

/// At the end of a group, whose cluster cannot start any more: one that is stopped is told, and one whose network is gone.
pub(super) fn stopped(cluster: &Cluster) -> Result<(), String> {
    let look = |id: &str| {
        let output = cluster.coracle_output(&["doctor", &format!("--check={id}"), "--output=json"])?;
        finding(&output, id, &cluster.name)
    };
    cluster.coracle(&["stop", &cluster.name])?;
    let found = look("cluster-stopped")?;
    ensure(found["command"] == format!("coracle start {}", cluster.name), || format!("{found}"))?;
    // As `docker network prune` does it.
    docker(&["network", "rm", &format!("coracle-{}", cluster.name)])?;
    let found = look("network-missing")?;
    ensure(found["command"] == format!("coracle delete cluster --name {}", cluster.name), || format!("{found}"))
}
