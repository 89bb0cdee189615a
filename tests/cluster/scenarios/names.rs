//! Names: the host's, search domains, and additions to CoreDNS.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{contains, docker, ensure, eventually};

const HEAD: &str = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n";

/// The examples of the documentation, as one configuration.
pub(super) fn create(cluster: &Cluster) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/dns.md");
    let page = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    cluster.create(&format!("{HEAD}{}", blocks.collect::<String>()), &[])?;
    super::hello::deploy(cluster)
}

/// A server on the host, at the host's address in the cluster's network, answers to pods and nodes by its name.
pub(super) fn host(cluster: &Cluster) -> Result<(), String> {
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let gateway = docker(&["network", "inspect", "--format", format, &format!("coracle-{}", cluster.name)])?;
    let server = TcpListener::bind((gateway.trim(), 0)).map_err(|error| error.to_string())?;
    let port = server.local_addr().map_err(|error| error.to_string())?.port();
    // It ends with the program.
    std::thread::spawn(move || {
        for mut connection in server.incoming().flatten() {
            let _ = connection.read(&mut [0; 1024]);
            let _ = connection.write_all(b"HTTP/1.0 200 OK\r\n\r\nthe host is here\n");
        }
    });
    let url = format!("http://host.coracle.internal:{port}/");
    let fetch = ["exec", "deployment/hello-world", "--", "wget", "-q", "-O", "-", &url];
    eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.kubectl(&fetch)?, "the host is here"))?;
    contains(&cluster.in_node(&format!("curl --silent --max-time 5 {url}"))?, "the host is here")
}

fn look_up(cluster: &Cluster, name: &str) -> Result<String, String> {
    cluster.python("deployment/hello-world", &format!("import socket; print(socket.gethostbyname('{name}'))"))
}

/// Pods and nodes look in the search domain, and find what a server of the configuration says.
pub(super) fn search(cluster: &Cluster) -> Result<(), String> {
    for name in ["db", "db.corp.example"] {
        eventually(EVENTUALLY_TIMEOUT, || contains(&look_up(cluster, name)?, "192.0.2.7"))?;
    }
    let resolver = cluster.kubectl(&["exec", "deployment/hello-world", "--", "cat", "/etc/resolv.conf"])?;
    contains(&resolver, "search default.svc.cluster.local svc.cluster.local cluster.local corp.example")?;
    contains(&cluster.in_node("cat /etc/resolv.conf")?, "search corp.example")
}

/// A plugin of the configuration works beside those that are there anyway.
pub(super) fn plugins(cluster: &Cluster) -> Result<(), String> {
    let address = cluster.kubectl(&["get", "service", "kubernetes", "--output=jsonpath={.spec.clusterIP}"])?;
    eventually(EVENTUALLY_TIMEOUT, || contains(&look_up(cluster, "api.example")?, &address))?;
    contains(&look_up(cluster, "hello-world.default.svc.cluster.local")?, "10.96.")
}

/// After a restart the host still has its name.
pub(super) fn restart(cluster: &Cluster) -> Result<(), String> {
    docker(&["restart", &cluster.node()])?;
    cluster.ready(Duration::from_secs(120))?;
    host(cluster)?;
    search(cluster)
}

/// A mistake ends the creation with CoreDNS' own words.
pub(super) fn wrong(cluster: &Cluster) -> Result<(), String> {
    let name = format!("{}corefile-{}", cleanup::PREFIX, std::process::id());
    cleanup::register(&name, &cluster.home.join("corefile"));
    let config = format!("{HEAD}name: {name}\ncoreDNS: {{plugins: no-such-plugin}}\n");
    let path = cluster.write("wrong-corefile.yaml", &config)?;
    let output = cluster.coracle_output(&["create", "cluster", "--name", &name, "--config", &path])?;
    ensure(output.code == 1, || output.told())?;
    contains(&output.stderr, "error[component-failed]: coredns keeps failing")?;
    contains(&output.stderr, "Unknown directive 'no-such-plugin'")?;
    let left = docker(&["ps", "--all", "--quiet", &format!("--filter=label=dev.coracle.cluster={name}")])?;
    ensure(left.trim().is_empty(), || format!("these containers are left: {left}"))
}
