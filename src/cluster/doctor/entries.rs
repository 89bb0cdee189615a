//! Kubeconfigs: whether they can be used, and whether the entries of coracle lead to clusters that exist.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use time::OffsetDateTime;

use crate::cluster::access;
use crate::cluster::doctor::finding::Finding;
use crate::cluster::doctor::fix::Fix;
use crate::cluster::found::Cluster;
use crate::config::ClusterName;
use crate::engine::Engine;
use crate::error::{Code, Error};
use crate::host::check::{Check, odd};
use crate::host::checks::Id;
use crate::kubeconfig::{self, Known, Location};
use crate::plan::labels;

/// How names of entries begin: coracle's own, and those of kind, which clusters for kind's tools have too.
const PREFIX: &str = "coracle-";
const OF_KIND: &str = "kind-";
/// How long a program may hold a lock here; kubectl and coracle need milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);
/// A lock that is older was left by a program that was killed.
const OLD_LOCK: Duration = Duration::from_secs(30);
/// How long an API server of this host may take to accept a connection.
const CONNECT: Duration = Duration::from_millis(300);
/// How long before its end a certificate is told.
const SOON: time::Duration = time::Duration::days(30);

/// Whether the files can be used.
pub(super) fn of_file(location: &Location) -> Vec<Finding> {
    let result = kubeconfig::preflight_within(location, LOCK_TIMEOUT);
    let code = result.as_ref().err().map(Error::code);
    let mut unlock = None;
    let findings = [Id::KubeconfigUnusable, Id::KubeconfigInvalid, Id::KubeconfigLocked].map(|id| {
        let of = match code {
            Some(Code::KubeconfigLocked) => Id::KubeconfigLocked,
            Some(Code::KubeconfigInvalid) => Id::KubeconfigInvalid,
            _ => Id::KubeconfigUnusable,
        };
        let failure = result.as_ref().err().filter(|_| id == of).cloned();
        if failure.is_some() && id == Id::KubeconfigLocked {
            unlock = kubeconfig::held_lock(location).filter(|(_, age)| *age > OLD_LOCK);
        }
        Finding { check: Check::unless(id, failure), fix: unlock.take().map(|(lock, _)| Fix::Unlock(lock)) }
    });
    let open = kubeconfig::open(location).into_iter().map(|file| {
        let error = odd(
            format!("every user of this host can read the keys in {}", file.display()),
            format!("`chmod o-rwx '{}'`", file.display()),
        );
        (error, Some(Fix::Close(file)))
    });
    let mut all: Vec<Finding> = findings.into();
    all.extend(Finding::each(Id::KubeconfigOpen, open.collect()));
    all
}

/// Whether the entries lead to clusters, as far as these are on this engine.
pub(super) async fn findings(engine: &dyn Engine, location: &Location, clusters: &[Cluster]) -> Vec<Finding> {
    let known = [PREFIX, OF_KIND].map(|prefix| kubeconfig::known(location, prefix)).concat();
    let (mut nowhere, mut stale, mut ending) = (Vec::new(), Vec::new(), Vec::new());
    let now = OffsetDateTime::now_utc();
    for entry in &known {
        let is_of_kind = entry.name.starts_with(OF_KIND);
        let name = entry.name.strip_prefix(if is_of_kind { OF_KIND } else { PREFIX });
        let Some(name) = name.and_then(|name| name.parse::<ClusterName>().ok()) else { continue };
        match clusters.iter().find(|cluster| cluster.context() == entry.name) {
            None if is_of_kind && is_by_kind(engine, &name).await => {}
            None if is_refused(&entry.server) => nowhere.push(leads_nowhere(&name, entry, is_of_kind)),
            Some(cluster) if engine.place().is_host() => {
                let authority = access::entry(engine, cluster, false).await.map(|own| own.ca_pem);
                if authority.is_ok_and(|authority| !entry.may_trust(&authority)) {
                    stale.push(is_stale(name, entry));
                } else {
                    ending.extend(ends(&name, entry, now));
                }
            }
            // It may be of another engine; and in a container, looking would connect that with the cluster's network.
            _ => {}
        }
    }
    let lists = [(Id::LeadsNowhere, nowhere), (Id::KubeconfigStale, stale), (Id::CertificateEnds, ending)];
    lists.into_iter().flat_map(|(id, failures)| Finding::each(id, failures)).collect()
}

/// Whether kind itself has a cluster of this name, which may be stopped.
async fn is_by_kind(engine: &dyn Engine, name: &ClusterName) -> bool {
    engine.containers(&[format!("{}={name}", labels::KIND_CLUSTER)]).await.is_ok_and(|nodes| !nodes.is_empty())
}

fn leads_nowhere(cluster: &ClusterName, entry: &Known, is_of_kind: bool) -> (Error, Option<Fix>) {
    let file = entry.file.clone();
    // kind may have written it: it is only told.
    let (hint, fix) = if is_of_kind {
        let (name, file) = (&entry.name, file.display());
        let option = format!("--kubeconfig '{file}'");
        (
            format!("`kubectl config delete-context {name} {option}`, and so for `delete-cluster` and `delete-user`"),
            None,
        )
    } else {
        let hint = format!("`coracle delete cluster --name {cluster}` removes it");
        (hint, Some(Fix::Forget { cluster: cluster.clone(), file: file.clone() }))
    };
    let error = odd(format!("the context `{}` in {} points to nothing", entry.name, file.display()), hint)
        .because(format!("this engine has no cluster `{cluster}`, and nothing answers at {}", entry.server));
    (error, fix)
}

fn is_stale(cluster: ClusterName, entry: &Known) -> (Error, Option<Fix>) {
    let file = entry.file.clone();
    let error = odd(
        format!("the context `{}` in {} is for an earlier cluster of this name", entry.name, file.display()),
        format!("`coracle export kubeconfig --name {cluster} --kubeconfig '{}'`", file.display()),
    )
    .because("it has another certificate authority than the cluster");
    (error, Some(Fix::Refresh { cluster, file }))
}

fn ends(cluster: &ClusterName, entry: &Known, now: OffsetDateTime) -> Option<(Error, Option<Fix>)> {
    let end = entry.ends().filter(|end| *end < now + SOON)?;
    let when = if end < now { "has ended" } else { "ends soon" };
    let hint = format!("delete and recreate the cluster: `coracle delete cluster --name {cluster}`");
    let error = odd(format!("the certificate of the context `{}` {when}", entry.name), hint);
    Some((error.because(format!("it is valid until {}", end.date())), None))
}

/// Whether an address of this host's loopback refuses connections: nothing else can be known to be gone.
fn is_refused(server: &str) -> bool {
    let Some(address) = server.strip_prefix("https://").map(|rest| rest.trim_end_matches('/')) else { return false };
    let address = address.replace("localhost", "127.0.0.1").parse::<SocketAddr>();
    let Ok(address) = address else { return false };
    let is_own = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    is_own(address.ip())
        && TcpStream::connect_timeout(&address, CONNECT)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;
