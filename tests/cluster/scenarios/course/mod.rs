//! Everything that a Kubernetes course uses, as the pages of `docs/guides` tell it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Group;
use crate::harness::chance::is_long;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::guide::{follow, notices_what_reads, reads_pages};
use crate::harness::run::{Output, ensure, eventually, run};

mod helm;
mod setup;
mod start;

pub(crate) use setup::SETUP;

/// The cluster of the guides: one control plane and two workers.
pub(crate) const COURSE: Group = Group {
    name: "course",
    environment: &[],
    create,
    together: &[
        ("workloads", |cluster| follow(cluster, "workloads.md")),
        ("monitoring", monitoring),
        ("deployments", |cluster| follow(cluster, "deployments.md")),
        ("configuration", |cluster| follow(cluster, "config-maps-and-secrets.md")),
        ("services", |cluster| follow(cluster, "services.md")),
        ("pods", |cluster| follow(cluster, "pods.md")),
        ("extending", |cluster| follow(cluster, "extending.md")),
        ("gitops", |cluster| follow(cluster, "gitops.md")),
        ("helm", helm::chart),
        ("access", |cluster| follow(cluster, "access.md")),
        ("limits", |cluster| follow(cluster, "limits.md")),
        ("pod-security", |cluster| follow(cluster, "pod-security.md")),
        ("debugging", |cluster| follow(cluster, "debugging.md")),
        ("ports", |cluster| follow(cluster, "ports.md")),
        ("logging", |cluster| follow(cluster, "logging.md")),
    ],
    // These take nodes away, or want the machine for themselves.
    scenarios: &[
        ("start", start::time),
        ("runtimes", alone::runtimes),
        ("scheduling", alone::scheduling),
        ("disruptions", alone::disruptions),
        ("self-healing", alone::self_healing),
        ("in-order", in_order),
        ("clean", clean),
    ],
};

/// Pages that are not followed at the same time as others.
mod alone {
    use super::{Cluster, follow};

    pub(super) fn runtimes(cluster: &Cluster) -> Result<(), String> {
        follow(&cluster.beside("runtimes")?, "runtimes.md")
    }

    pub(super) fn scheduling(cluster: &Cluster) -> Result<(), String> {
        follow(&cluster.beside("scheduling")?, "scheduling.md")
    }

    pub(super) fn disruptions(cluster: &Cluster) -> Result<(), String> {
        follow(&cluster.beside("disruptions")?, "disruptions.md")
    }

    pub(super) fn self_healing(cluster: &Cluster) -> Result<(), String> {
        follow(&cluster.beside("self-healing")?, "self-healing.md")
    }
}

/// Builds an image of `samples`; the engine's cache has it the second time.
fn build(script: &str) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(script);
    run(Command::new(script), None, Duration::from_secs(600)).and_then(Output::ok).map(drop)
}

/// The cluster of `configs/course.yaml`, with the image of the guides.
fn create(cluster: &Cluster) -> Result<(), String> {
    reads_pages()?;
    notices_what_reads(cluster)?;
    build("tools/build.sh")?;
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/course.yaml");
    cluster.coracle(&["create", "cluster", "--config", config])?;
    cluster.coracle(&["load", "docker-image", "tools:v1"])?;
    cluster.write("before", &outside_namespaces(cluster)?).map(drop)
}

/// What belongs to the whole cluster, a line each, and what is in the namespace `default`.
fn outside_namespaces(cluster: &Cluster) -> Result<String, String> {
    const KINDS: &str = "namespaces,nodes,customresourcedefinitions,clusterroles,clusterrolebindings,priorityclasses,\
        runtimeclasses,storageclasses,persistentvolumes,validatingwebhookconfigurations,mutatingwebhookconfigurations,\
        certificatesigningrequests,apiservices";
    let all = cluster.kubectl(&["get", KINDS, "--output=name"])?;
    let default =
        cluster.kubectl(&["get", "all,configmaps,secrets,serviceaccounts", "--namespace=default", "--output=name"])?;
    // The kubelets' own requests for certificates come and go, and the measurement of pods has a namespace of its own.
    let is_lasting = |line: &&str| {
        !line.starts_with("certificatesigningrequest.certificates.k8s.io/csr-") && *line != "namespace/start"
    };
    let mut lines: Vec<&str> = all.lines().chain(default.lines()).filter(is_lasting).collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

/// In the long run, all pages once more: one after the other as the index has them, and then from the last to the first.
fn in_order(cluster: &Cluster) -> Result<(), String> {
    if !is_long() {
        return Ok(());
    }
    let pages = index()?;
    for (turn, page) in pages.iter().chain(pages.iter().rev().skip(1)).enumerate() {
        println!("        {page}");
        let follower = cluster.beside(&format!("in-order-{turn}"))?;
        // The page of Helm wants a program that is built for it.
        let followed = if page == "helm.md" { helm::chart(&follower) } else { follow(&follower, page) };
        followed.map_err(|error| format!("turn {}: {error}", turn + 1))?;
    }
    Ok(())
}

/// The pages of the index, without the last one, which has a cluster of its own.
fn index() -> Result<Vec<String>, String> {
    let index = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guides/README.md");
    let text = std::fs::read_to_string(index).map_err(|error| error.to_string())?;
    let page = |line: &str| Some(line.strip_prefix("| [")?.split_once("](")?.1.split_once(')')?.0.to_owned());
    let mut pages: Vec<String> = text.lines().filter_map(page).collect();
    let last = pages.pop();
    ensure(last.as_deref() == Some("control-plane.md") && pages.len() >= 19, || format!("{pages:?}, {last:?}"))?;
    Ok(pages)
}

/// No page has left anything to the next one, so that they can be taken in any order.
fn clean(cluster: &Cluster) -> Result<(), String> {
    let before = std::fs::read_to_string(cluster.home.join("before")).map_err(|error| error.to_string())?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let now = outside_namespaces(cluster)?;
        let is_new = |line: &&str| !before.lines().any(|known| known == *line);
        let new: Vec<&str> = now.lines().filter(is_new).collect();
        ensure(new.is_empty() && now.lines().count() == before.lines().count(), || format!("left behind: {new:?}"))
    })
}

/// The page; its image is built before, which may take longer than a block of a page.
fn monitoring(cluster: &Cluster) -> Result<(), String> {
    build("prometheus/build.sh")?;
    follow(cluster, "monitoring.md")
}
