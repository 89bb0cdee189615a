//! A node that is added by kubeadm, as to any cluster.

use super::hello;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, json};
use crate::harness::run::{contains, docker, ensure, eventually};

/// What the command of `kubeadm token create` adds is a node of the cluster. Images and add-ons reach it when they are
/// loaded and enabled again.
pub(super) fn joined(cluster: &Cluster) -> Result<(), String> {
    let node = format!("{}-worker", cluster.name);
    boot(cluster, &node)?;
    let join = cluster.in_node("kubeadm token create --print-join-command")?;
    // Warnings about the kernel, swap and cgroups are those of a container.
    docker(&["exec", &node, "bash", "-c", &format!("{} --ignore-preflight-errors=all", join.trim())])?;
    contains(&cluster.coracle(&["get", "nodes"])?, &node)?;
    let ready = || cluster.kubectl(&["wait", "node", &node, "--for=condition=Ready", "--timeout=90s"]);
    eventually(EVENTUALLY_TIMEOUT, ready)?;
    addon(cluster, &node)?;

    eventually(EVENTUALLY_TIMEOUT, ready)?;
    cluster.coracle(&["load", "docker-image", hello::IMAGE])?;
    let place = format!("{{\"spec\": {{\"nodeName\": \"{node}\"}}}}");
    let place = format!("--overrides={place}");
    cluster.kubectl(&["run", "there", "--image=hello-world:latest", "--image-pull-policy=Never", &place])?;
    cluster.kubectl(&["wait", "pod/there", "--for=condition=Ready", "--timeout=90s"])?;
    let address = cluster.kubectl(&["get", "pod/there", "--output=jsonpath={.status.podIP}"])?;
    let fetch = format!("curl --silent --fail --max-time 5 http://{address}:8080/");
    // From the other node, over a route that the agent made.
    eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.in_node(&fetch)?, "Hello, world!")).map(drop)
}

/// A node that does not run gets nothing; one that does has the add-on's image when it is enabled again, also after a restart.
fn addon(cluster: &Cluster, node: &str) -> Result<(), String> {
    let has = || Ok(docker(&["exec", node, "crictl", "images"])?.contains("coracle/addon-metrics-server"));
    docker(&["stop", "--time=5", node])?;
    let passed_over = cluster.coracle_output(&["addon", "enable", "metrics-server"])?;
    docker(&["start", node])?;
    ensure(passed_over.code == 0, || passed_over.told())?;
    contains(&passed_over.stderr, &format!("Node {node} is not running and gets no images"))?;
    ensure(!eventually(EVENTUALLY_TIMEOUT, has)?, || "it has the image already".to_owned())?;
    cluster.coracle(&["addon", "enable", "metrics-server"])?;
    docker(&["restart", "--time=5", node])?;
    ensure(eventually(EVENTUALLY_TIMEOUT, has)?, || "it has no image".to_owned())
}

/// A container like the first node's, labelled as one of the cluster, with nothing of Kubernetes in it but the programs.
fn boot(cluster: &Cluster, name: &str) -> Result<(), String> {
    let first = json(&docker(&["inspect", &cluster.node()])?)?[0].clone();
    let host = &first["HostConfig"];
    let texts = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let network = format!("--network=coracle-{}", cluster.name);
    let mut arguments: Vec<String> =
        ["create", "--name", name, "--hostname", name, &network, "--cgroupns=private"].map(str::to_owned).to_vec();
    arguments.extend(["--tmpfs=/run", "--tmpfs=/tmp", "--volume=/var"].map(str::to_owned));
    if host["Privileged"] == true {
        arguments.push("--privileged".to_owned());
    } else {
        let lists = [("cap-add", "CapAdd"), ("cap-drop", "CapDrop"), ("security-opt", "SecurityOpt")];
        for (option, key) in lists.into_iter().chain([("device-cgroup-rule", "DeviceCgroupRules")]) {
            arguments.extend(texts(&host[key]).into_iter().map(|value| format!("--{option}={value}")));
        }
        let devices = host["Devices"].as_array().into_iter().flatten();
        let paths = devices.filter_map(|device| device["PathOnHost"].as_str());
        arguments.extend(paths.map(|path| format!("--device={path}")));
        arguments.push("--security-opt=systempaths=unconfined".to_owned());
    }
    let labels = first["Config"]["Labels"].as_object().into_iter().flatten();
    for (key, value) in labels.filter(|(key, _)| key.starts_with("dev.coracle.")) {
        let value = match key.as_str() {
            "dev.coracle.role" => "worker",
            "dev.coracle.address" => "",
            _ => value.as_str().unwrap_or_default(),
        };
        arguments.push(format!("--label={key}={value}"));
    }
    arguments.push(first["Image"].as_str().unwrap_or_default().to_owned());
    docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    // The runtime's settings are the host's: its version of cgroups.
    let settings = cluster.home.join("config.toml").display().to_string();
    docker(&["cp", &format!("{}:/etc/containerd/config.toml", cluster.node()), &settings])?;
    docker(&["cp", &settings, &format!("{name}:/etc/containerd/config.toml")])?;
    docker(&["start", name])?;
    eventually(EVENTUALLY_TIMEOUT, || docker(&["exec", name, "crictl", "info"])).map(drop)
}
