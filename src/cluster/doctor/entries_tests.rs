//! Entries of a kubeconfig that are as they should not be, and what mends them.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::cluster::found;
use crate::cluster::upload::write_files;
use crate::engine::SharedEngine;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, Labels};
use crate::kubeconfig::Entry;
use crate::plan::FileTree;
use crate::plan::labels;
use crate::plan::node::kubelet;

fn location(file: &Path) -> Location {
    Location::new(Some(file), None, None).unwrap()
}

/// An engine with the cluster `dev`, whose authority is `authority`.
async fn engine() -> SharedEngine {
    let engine = FakeEngine::new(&["node"]);
    let labels = [(labels::CLUSTER, "dev"), (labels::ROLE, "control-plane")];
    let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let spec = ContainerSpec { labels, ..ContainerSpec::new("dev-control-plane", "node") };
    engine.create_container(&spec).await.unwrap();
    let mut files = FileTree::default();
    let admin = kubelet::kubeconfig("https://172.18.0.3:6443", "authority", "admin", "certificate", "key").unwrap();
    files.text("/etc/kubernetes/admin.conf", admin);
    write_files(&engine, "dev-control-plane", &files).await.unwrap();
    Arc::new(engine)
}

fn entry(cluster: &str, server: &str, authority: &str, certificate: &str) -> Entry {
    Entry {
        name: format!("coracle-{cluster}"),
        server: server.to_owned(),
        ca_pem: authority.to_owned(),
        client_cert_pem: certificate.to_owned(),
        client_key_pem: "key".to_owned(),
    }
}

fn failed(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().filter(|finding| finding.check.result.is_err()).map(|finding| finding.check.id.row().id).collect()
}

#[tokio::test]
async fn entries_that_lead_nowhere_or_elsewhere_are_found_and_mended() {
    let (engine, directory) = (engine().await, tempfile::tempdir().unwrap());
    let file = directory.path().join("config");
    let location = location(&file);
    // Nothing listens at port 1; of another machine no one knows what it has.
    for (cluster, server) in [("gone", "https://127.0.0.1:1"), ("away", "https://192.0.2.1:6443")] {
        kubeconfig::merge(&location, &entry(cluster, server, "other", "certificate"), true).await.unwrap();
    }
    kubeconfig::merge(&location, &entry("dev", "https://127.0.0.1:1", "earlier", "certificate"), true).await.unwrap();
    let clusters = found::list(&*engine).await.unwrap();
    let found = findings(&*engine, &location, &clusters).await;
    assert_eq!(failed(&found), ["kubeconfig-leads-nowhere", "kubeconfig-stale"]);
    for fix in found.iter().filter_map(|finding| finding.fix.as_ref()) {
        fix.apply(Some(&engine)).await.unwrap();
    }
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains("coracle-gone") && text.contains("coracle-away") && text.contains("coracle-dev"), "{text}");
    assert_eq!(failed(&findings(&*engine, &location, &clusters).await), [""; 0]);
}

#[tokio::test]
async fn an_entry_of_kind_that_leads_nowhere_is_told_and_left_alone() {
    let (engine, directory) = (FakeEngine::new(&["node"]), tempfile::tempdir().unwrap());
    let labels: Labels = [(labels::KIND_CLUSTER.to_owned(), "theirs".to_owned())].into();
    engine.create_container(&ContainerSpec { labels, ..ContainerSpec::new("theirs", "node") }).await.unwrap();
    let location = location(&directory.path().join("config"));
    for name in ["kind-gone", "kind-theirs"] {
        let entry = Entry { name: name.to_owned(), ..entry("x", "https://127.0.0.1:1", "other", "certificate") };
        kubeconfig::merge(&location, &entry, true).await.unwrap();
    }
    let found = findings(&engine, &location, &[]).await;
    assert_eq!(failed(&found), ["kubeconfig-leads-nowhere"]);
    let told = found.iter().find(|finding| finding.check.result.is_err()).unwrap();
    assert!(told.fix.is_none() && told.command().unwrap().starts_with("kubectl config delete-context kind-gone"));
}

#[tokio::test]
async fn a_certificate_near_its_end_is_told() {
    let (engine, directory) = (engine().await, tempfile::tempdir().unwrap());
    let location = location(&directory.path().join("config"));
    let clusters = found::list(&*engine).await.unwrap();
    for (days, told) in [(-3, 1), (3, 1), (300, 0)] {
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.not_after = OffsetDateTime::now_utc() + time::Duration::days(days);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "kubernetes-admin");
        let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        let entry = entry("dev", "https://127.0.0.1:1", "authority", &certificate);
        kubeconfig::merge(&location, &entry, true).await.unwrap();
        let found = failed(&findings(&*engine, &location, &clusters).await);
        assert_eq!(found, ["certificate-ends"].repeat(told), "{days} days");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_told_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let at = location(&file);
    assert_eq!(failed(&of_file(&at)), [""; 0]);
    assert_eq!(failed(&of_file(&location(directory.path()))), ["kubeconfig-unusable"]);
    fs::write(&file, "clusters: {").unwrap();
    assert_eq!(failed(&of_file(&at)), ["kubeconfig-invalid"]);

    fs::write(&file, "users: [{name: a, user: {token: secret}}]\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let lock = directory.path().join("config.lock");
    let held = File::create(&lock).unwrap();
    // Another program may still need a young one.
    let found = of_file(&at);
    assert_eq!(failed(&found), ["kubeconfig-locked", "kubeconfig-open"]);
    assert_eq!(found.iter().filter(|finding| finding.fix.is_some()).count(), 1);
    held.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    for fix in of_file(&at).iter().filter_map(|finding| finding.fix.as_ref()) {
        fix.apply(None).await.unwrap();
    }
    assert_eq!(failed(&of_file(&at)), [""; 0]);
    assert!(!lock.exists());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
}
