//! The pages about registries and images, followed as they are written, and what is in a registry's way.

use std::net::{Ipv4Addr, TcpListener};

use super::registry::{self, host, registry};
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, json};
use crate::harness::guide::follow_as;
use crate::harness::run::{contains, docker, ensure, free_port};

/// Follows `docs/reference/registry.md`, with a registry of its own: the page's one is the user's.
pub(super) fn page(cluster: &Cluster) -> Result<(), String> {
    let name = format!("{}page-{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("volume", &name);
    cleanup::register_object("container", &name);
    let port = free_port()?;
    let image = format!("localhost:{port}/hello:latest");
    cleanup::register_object("image", &image);
    let create = format!("coracle registry create --name {name} --port {port} --cluster {}\n", cluster.name);
    let words = [
        ("coracle registry create\n", create.as_str()),
        ("coracle registry list\n", &format!("coracle registry list | grep -e NAME -e {name}\n")),
        ("coracle registry prune\n", &format!("coracle registry prune --name {name}\n")),
        ("coracle registry delete --volumes\n", &format!("coracle registry delete --name {name} --volumes\n")),
        ("ghcr.io registry.example.com:5000", "private.test:5443"),
        ("coracle-registry", &name),
        ("localhost:5001", &format!("localhost:{port}")),
        ("dev, test", &cluster.name),
    ];
    follow_as(cluster, "../reference/registry.md", &words)?;
    cluster.kubectl(&["delete", "pod", "hello", "--now"])?;
    let left = docker(&["volume", "ls", "--quiet", "--filter", &format!("name={name}")])?;
    ensure(left.is_empty(), || format!("left: {left}"))?;
    // The cluster has the other one still, and tools find that one again.
    let key = "--output=jsonpath={.data.localRegistryHosting\\.v1}";
    let text = cluster.kubectl(&["get", "configmap", "local-registry-hosting", "--namespace=kube-public", key])?;
    contains(&text, &format!("host: {}\n", host(cluster)?))
}

/// Follows `docs/reference/image-commands.md`, with an image of its own name.
pub(super) fn image_page(cluster: &Cluster) -> Result<(), String> {
    let image = format!("{}app-{}:1", cleanup::PREFIX, std::process::id());
    cleanup::register_object("image", &image);
    let words = [
        // Other scenarios have left other images.
        ("KEPT\n", "KEPT\n…\n"),
        ("quay.io/a/tool:3     00539d51bea1   7.2 MB    all     -         -\n", "…\n"),
        ("7c71bfd0f116   59.7 MB", "… MB"),
        ("app:1", &image),
    ];
    follow_as(cluster, "../reference/image-commands.md", &words)?;
    cluster.kubectl(&["delete", "deployment", "app", "--cascade=foreground", "--timeout=60s"])?;
    let id = docker(&["image", "inspect", "--format={{.Id}}", &image])?;
    cleanup::register_object("image", id.trim());
    cluster.coracle(&["image", "rm", &image, "--force"]).map(drop)
}

/// A port that someone has: said at once, with what to do next, and nothing is left.
pub(super) fn port_taken(cluster: &Cluster) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let program = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
    let port = program.local_addr().map_err(text)?.port().to_string();
    let name = format!("{}taken-{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("volume", &name);
    cleanup::register_object("container", &name);
    let refused = |arguments: &[&str], cause: &str| {
        let output = cluster.coracle_output(arguments)?;
        ensure(output.code == 4, || output.told())?;
        for part in ["error[port-taken]", cause, &format!("coracle registry create --name {name} --port PORT")] {
            contains(&output.stderr, part)?;
        }
        ensure(!output.stderr.contains("Building"), || output.told())
    };
    refused(&["registry", "create", "--name", &name, "--port", &port], "Address already in use")?;
    let other = host(cluster)?.replace("localhost:", "");
    refused(&["registry", "create", "--name", &name, "--port", &other], &format!("registry `{}` has it", registry()))?;
    // The port that `create` chooses is the user's, or taken now.
    let _default = TcpListener::bind((Ipv4Addr::LOCALHOST, 5001));
    let config = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nregistry: {name}\n");
    let config = cluster.write("taken.yaml", &config)?;
    refused(&["create", "cluster", "--name", &name, "--config", &config], "port 5001")?;
    for kind in [&["ps", "--all"][..], &["volume", "ls"], &["network", "ls"]] {
        let left = docker(&[kind, &["--quiet", "--filter", &format!("name={name}")]].concat())?;
        ensure(left.is_empty(), || format!("`docker {}` has {left}", kind.join(" ")))?;
    }
    Ok(())
}

/// A pull of 20 MiB of noise, from a registry that takes its time, says how far it is.
pub(super) fn pulls_with_progress(cluster: &Cluster, image: &str) -> Result<(), String> {
    docker(&["update", "--cpu-period=100000", "--cpu-quota=2000", &registry()])?;
    let events = cluster.coracle(&["image", "pull", image, "--output=json"]);
    docker(&["update", "--cpu-quota=-1", &registry()])?;
    let events = events?.lines().map(json).collect::<Result<Vec<_>, _>>()?;
    let of_pull = events.iter().filter(|event| event["event"] == "detail" && event["thing"].is_string());
    let told: Vec<_> = of_pull.filter_map(|event| event["message"].as_str()).collect();
    let far = |text: &&str| text.starts_with("downloading, ") && text.contains(" of 20.9 MB");
    ensure(told.iter().any(far), || format!("it said {told:?} of {events:?}"))?;
    println!("        pulling said: {}", told.join("; "));
    cluster.coracle(&["image", "rm", image]).map(drop)
}

/// A file of kind for a private registry whose certificate no one knows: pods get its images, with the file's password.
pub(super) fn kind_file(_: &Cluster) -> Result<(), String> {
    let file = include_str!("../../kind-files/private-registry.yaml");
    let other = Cluster::new("registry-kind")?;
    std::fs::create_dir_all(other.home.join("certs")).map_err(|error| error.to_string())?;
    let text = file.replace("HOSTDIR", &other.home.display().to_string());
    let text = text.replace("someone", registry::USER).replace("secret", registry::PASSWORD);
    other.create(&text, &[])?;
    let network = format!("coracle-{}", other.name);
    docker(&["network", "connect", "--alias", "registry.test", &network, &registry::mirror()])?;
    let image = "registry.test:5443/team/app:1";
    let pulled = registry::runs(&other, "private", image, &other.node());
    docker(&["network", "disconnect", "--force", &network, &registry::mirror()])?;
    pulled?;
    other.coracle(&["delete", "cluster"]).map(drop)
}
