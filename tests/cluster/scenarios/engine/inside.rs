//! Docker-outside-of-Docker: coracle in a container that has the engine's socket, as in a devcontainer.

use std::process::Command;
use std::time::Duration;

use crate::harness::cluster::Cluster;
use crate::harness::engine::newest_image;
use crate::harness::run::{Output, docker, ensure, run};

const NAME: &str = "t-accept-inside";
const CLUSTER: &str = "t-accept-dood";

/// Creates, uses and deletes a cluster from a container that has nothing but the socket and the command.
pub(super) fn inside(_: &Cluster) -> Result<(), String> {
    let image = newest_image("coracle/node")?;
    let mounts = [
        "/var/run/docker.sock:/var/run/docker.sock".to_owned(),
        format!("{}:/usr/local/bin/coracle:ro", crate::harness::coracle()),
    ];
    let [socket, binary] = mounts.each_ref().map(String::as_str);
    docker(&[
        "run",
        "--detach",
        "--name",
        NAME,
        "--volume",
        socket,
        "--volume",
        binary,
        "--entrypoint",
        "sleep",
        &image,
        "600",
    ])?;
    let worked = works();
    // The cluster first: its network cannot go while the container is in it.
    let _ = in_container(&["coracle", "delete", "cluster", "--name", CLUSTER]);
    docker(&["rm", "--force", NAME])?;
    worked
}

fn works() -> Result<(), String> {
    in_container(&["coracle", "create", "cluster", "--name", CLUSTER])?;
    // With what `create` has left in the container, and nothing else.
    let nodes = in_container(&["kubectl", "get", "nodes", "--output=name"])?;
    ensure(nodes.trim() == format!("node/{CLUSTER}-control-plane"), || format!("the nodes are {nodes}"))?;
    in_container(&["coracle", "status", "--name", CLUSTER])?;
    // The metrics of CoreDNS: the only page that a new cluster has.
    let ports = r#"{"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 9153, "nodePort": 30080}]}}"#;
    in_container(
        &[
            &["kubectl", "expose", "deployment", "coredns", "--namespace=kube-system", "--name=web", "--port=80"][..],
            &["--target-port=9153", "--type=NodePort", "--overrides", ports],
        ]
        .concat(),
    )?;
    let url = in_container(&["coracle", "url", "web", "--name", CLUSTER, "--namespace=kube-system", "--wait=60s"])?;
    ensure(url.trim().ends_with(":30080") && !url.contains("127.0.0.1"), || format!("the URL is {url}"))?;
    let shown = docker(&["ps", "--filter", &format!("name={CLUSTER}-control-plane"), "--format", "{{.Image}}"])?;
    ensure(shown.contains("coracle/node:v"), || format!("docker ps shows the image `{shown}`"))?;
    in_container(&["coracle", "delete", "cluster", "--name", CLUSTER])?;
    // The step of docs/guides/ci.md for Jenkins.
    let results = "/tmp/junit.xml";
    let step =
        ["coracle", "run", "--name", CLUSTER, "--junit", results, "--", "kubectl", "get", "nodes", "--output=name"];
    let nodes = in_container(&step)?;
    ensure(nodes.contains(&format!("node/{CLUSTER}-control-plane")), || format!("the command of `run` saw {nodes}"))?;
    ensure(in_container(&["cat", results])?.contains("<testcase "), || "there are no JUnit results".to_owned())?;
    let networks =
        docker(&["inspect", "--format", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}", NAME])?;
    ensure(networks.trim() == "bridge", || format!("the container is still in {networks}"))
}

fn in_container(command: &[&str]) -> Result<String, String> {
    let mut exec = Command::new("docker");
    exec.args(["exec", NAME]).args(command);
    run(exec, None, Duration::from_secs(300)).and_then(Output::ok)
}
