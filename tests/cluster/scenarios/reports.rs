//! What coracle prints about a cluster, in every format.

use serde_json::Value;

use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, json};
use crate::harness::run::{LIMIT, contains, docker, ensure, run};

fn yaml(text: &str) -> Result<Value, String> {
    serde_yaml::from_str(text).map_err(|error| format!("this is not YAML ({error}): {text}"))
}

/// `--dry-run` makes nothing and shows no secret.
pub(super) fn dry_run(cluster: &Cluster) -> Result<(), String> {
    let name = format!("{}dry-{}", cleanup::PREFIX, std::process::id());
    let before = std::fs::read_to_string(cluster.kubeconfig()).map_err(|error| error.to_string())?;
    let text = cluster.coracle(&["create", "cluster", "--name", &name, "--dry-run", "-o", "yaml", "--workers=1"])?;
    let plan = yaml(&text)?;
    ensure(plan["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2), || format!("the plan is {text}"))?;
    let again = cluster.coracle(&["create", "cluster", "--name", &name, "--dry-run", "--workers=1"])?;
    ensure(again.lines().count() < 24, || format!("the summary is long: {again}"))?;
    for part in [&format!("coracle-{name}"), &format!("{name}-worker"), "a free port"] {
        contains(&again, part)?;
    }
    ensure(plan["apiServer"] == "https://127.0.0.1:0", || format!("a port was chosen: {}", plan["apiServer"]))?;
    contains(&text, "/etc/kubernetes/pki/ca.key")?;
    contains(&text, "mode: \"0600\"")?;
    for secret in ["PRIVATE KEY", "client-key-data", "BEGIN CERTIFICATE"] {
        ensure(!text.contains(secret), || format!("the plan shows `{secret}`"))?;
    }
    for list in [&["ps", "--all", "--format={{.Names}}"][..], &["volume", "ls", "--quiet"], &["network", "ls"]] {
        ensure(!docker(list)?.contains(&name), || format!("`docker {}` shows {name}", list.join(" ")))?;
    }
    let after = std::fs::read_to_string(cluster.kubeconfig()).map_err(|error| error.to_string())?;
    ensure(before == after, || "the kubeconfig has changed".to_owned())
}

/// `status`, as a table, JSON and YAML.
pub(super) fn status(cluster: &Cluster) -> Result<(), String> {
    let table = cluster.coracle(&["status"])?;
    contains(&table, &cluster.node())?;
    contains(&table, "API server answers at https://127.0.0.1:")?;
    let status = cluster.coracle_json(&["status", "--output=json"])?;
    ensure(status["apiAlive"] == true && status["nodes"][0]["ready"] == true, || format!("it says {status}"))?;
    ensure(status["disk"]["free"].as_u64() > Some(0) && status["certificatesExpire"].is_string(), || {
        format!("it says {status}")
    })?;
    // Free space changes all the time.
    let without_disk = |mut status: Value| {
        status["disk"] = Value::Null;
        status
    };
    let again = yaml(&cluster.coracle(&["status", "-o", "yaml"])?)?;
    ensure(without_disk(again) == without_disk(status), || "YAML and JSON differ".to_owned())?;
    let missing = cluster.coracle_output(&["status", "--name=t-accept-nothing"])?;
    ensure(missing.code != 0 && missing.stderr.contains("t-accept-nothing"), || missing.told())
}

/// `get clusters`, `nodes` and `kubeconfig`, in every format.
pub(super) fn get(cluster: &Cluster) -> Result<(), String> {
    for (what, name) in [("clusters", cluster.name.clone()), ("nodes", cluster.node())] {
        contains(&cluster.coracle(&["get", what])?, &name)?;
        contains(&cluster.coracle(&["get", what, "--output=wide"])?, "v1.")?;
        let names = cluster.coracle(&["get", what, "-o", "name"])?;
        ensure(names.lines().any(|line| line == name), || format!("`get {what} -o name` printed {names}"))?;
        let values = cluster.coracle_json(&["get", what, "-o", "json"])?;
        let found = values.as_array().is_some_and(|all| all.iter().any(|one| one["name"] == *name));
        ensure(found, || format!("`get {what} -o json` printed {values}"))?;
        let same = yaml(&cluster.coracle(&["get", what, "-o", "yaml"])?)?;
        // Other clusters may come and go meanwhile.
        let pick = |all: &Value| all.as_array().and_then(|all| all.iter().find(|one| one["name"] == *name)).cloned();
        ensure(pick(&same) == pick(&values), || format!("`get {what}`: YAML and JSON differ"))?;
    }
    let wide = cluster.coracle(&["get", "nodes", "-o", "wide"])?;
    ensure(!wide.contains("sha256:"), || format!("the image has no name: {wide}"))?;
    let text = cluster.coracle(&["get", "kubeconfig"])?;
    let config = yaml(&text)?;
    ensure(config["current-context"] == format!("coracle-{}", cluster.name), || "the context is wrong".to_owned())?;
    let path = cluster.write("own-kubeconfig", &text)?;
    contains(&cluster.kubectl(&["--kubeconfig", &path, "get", "nodes"])?, &cluster.node())
}

/// What the engine shows carries the cluster's labels.
pub(super) fn labels(cluster: &Cluster) -> Result<(), String> {
    let filter = format!("--filter=label=dev.coracle.cluster={}", cluster.name);
    contains(&docker(&["ps", &filter, "--format={{.Names}}"])?, &cluster.node())?;
    for list in [&["volume", "ls", "--quiet"][..], &["network", "ls", "--quiet"]] {
        let found = docker(&[list, &[filter.as_str()]].concat())?;
        ensure(found.lines().count() >= 1, || format!("`docker {}` shows nothing with the label", list.join(" ")))?;
    }
    let labels = json(&docker(&["inspect", "--format={{json .Config.Labels}}", &cluster.node()])?)?;
    for (key, value) in
        [("role", "control-plane"), ("kubernetes-version", "v1."), ("api-endpoint", "https://127.0.0.1:")]
    {
        let label = labels[format!("dev.coracle.{key}")].as_str().unwrap_or_default();
        ensure(label.starts_with(value), || format!("the label {key} is `{label}`"))?;
    }
    Ok(())
}

/// `export kubeconfig`, also with the address inside the cluster's network.
pub(super) fn export_kubeconfig(cluster: &Cluster) -> Result<(), String> {
    let path = cluster.home.join("exported").display().to_string();
    let server =
        ["config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}", "--kubeconfig", &path];
    cluster.coracle(&["export", "kubeconfig", "--kubeconfig", &path, "--internal"])?;
    let inside = format!("https://{}:6443", cluster.address()?);
    ensure(cluster.kubectl(&server)? == inside, || "the internal address is wrong".to_owned())?;
    contains(&cluster.kubectl(&["get", "nodes", "--kubeconfig", &path])?, &cluster.node())?;
    cluster.coracle(&["export", "kubeconfig", "--kubeconfig", &path])?;
    let outside = cluster.kubectl(&server)?;
    ensure(outside.starts_with("https://127.0.0.1:"), || format!("the address is {outside}"))
}

/// `coracle kubectl`: of the cluster's version, with coracle's options before kubectl's first word.
pub(super) fn coracle_kubectl(cluster: &Cluster) -> Result<(), String> {
    contains(&cluster.coracle(&["kubectl", "get", "nodes"])?, &cluster.node())?;
    let versions = cluster.coracle_json(&["kubectl", "--name", &cluster.name, "version", "--output=json"])?;
    let pair = (&versions["clientVersion"]["gitVersion"], &versions["serverVersion"]["gitVersion"]);
    ensure(pair.0 == pair.1 && pair.0.is_string(), || format!("client and server are {pair:?}"))?;
    // Words after kubectl's first one are kubectl's.
    let pod = cluster.coracle(&["kubectl", "get", "pods", "-n", "kube-system", "-o", "name"])?;
    contains(&pod, "pod/coredns-")?;
    // The option wins over the variable.
    let mut command = cluster.command(&["kubectl", "--name", &cluster.name, "get", "--raw=/version"]);
    command.env("CORACLE_CLUSTER_NAME", "t-accept-nothing");
    contains(&run(command, None, LIMIT)?.ok()?, "gitVersion")?;
    let failing = cluster.coracle_output(&["kubectl", "get", "no-such-thing"])?;
    ensure(failing.code == 1, || format!("it ended with {}", failing.code))
}

/// `export logs` writes what one needs to find a fault.
pub(super) fn export_logs(cluster: &Cluster) -> Result<(), String> {
    let directory = cluster.home.join("logs");
    cluster.coracle(&["export", "logs", &directory.display().to_string()])?;
    let mut files = Vec::new();
    super::security::files_below(&directory, &mut files);
    let of_size = |part: &str| {
        let found = files.iter().any(|path| {
            path.display().to_string().contains(part) && path.metadata().is_ok_and(|metadata| metadata.len() > 0)
        });
        ensure(found, || format!("no file of `{part}` with content among {files:?}"))
    };
    for part in ["kubelet", "containerd", "kube-apiserver", "api/events.txt", "api/pods.json", &cluster.node()] {
        of_size(part)?;
    }
    super::security::without_keys(cluster, "the exported logs", &super::security::content(&files))
}
