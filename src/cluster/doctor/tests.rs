//! All of it at once, on an engine in memory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::engine::Engine;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{AddressPool, Image, Labels, NetworkSpec};
use crate::host::checks::Severity;
use crate::plan::labels;

fn request(directory: &Path, engine: Result<SharedEngine>, config: Option<&str>) -> Request {
    std::fs::write(directory.join("config.json"), "{}").unwrap();
    Request {
        engine,
        config: config.map(|text| {
            let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{text}\n");
            load(&text, "c.yaml", &Overrides::default())
        }),
        kubeconfig: Location::new(Some(&directory.join("kubeconfig")), None, None),
        docker_config: Some(directory.to_owned()),
        proxy: ProxySettings::default(),
    }
}

fn failed(findings: &[Finding], severity: Severity) -> Vec<&'static str> {
    let failed = findings.iter().filter(|finding| finding.check.failure(severity).is_some());
    failed.map(|finding| finding.check.id.row().id).collect()
}

/// A node image for this processor; without one it is for another.
fn image(architecture: &str) -> Image {
    Image {
        id: "sha256:1234".to_owned(),
        labels: Labels::from([(labels::VERSION.to_owned(), "v1.36.3".to_owned())]),
        tags: vec!["coracle/node:v1.36.3".to_owned()],
        platform: ("linux".to_owned(), architecture.to_owned(), String::new()),
        ..Image::default()
    }
}

#[tokio::test]
async fn every_check_of_the_list_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Arc::new(FakeEngine::new(&[]).with_image(image("amd64")));
    let found = examine(&request(directory.path(), Ok(engine), Some("name: t-all"))).await;
    let seen: BTreeSet<Id> = found.iter().map(|finding| finding.check.id).collect();
    let missing: Vec<&Id> = Id::ALL.iter().filter(|id| !seen.contains(id)).collect();
    // Where the engine has other files than this process, its host cannot be looked at.
    let elsewhere = [Id::OldCgroups, Id::DiskLow, Id::InodesLow, Id::InotifyWatches, Id::NoForwarding, Id::AppArmor];
    let is_here = Path::new(&crate::engine::fake::info().data_root).exists();
    assert_eq!(missing, if is_here { Vec::new() } else { elsewhere.iter().collect() });
    let order: Vec<Id> = found.iter().map(|finding| finding.check.id).collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn without_an_engine_the_rest_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    for (code, id) in [
        (Code::EngineUnreachable, "engine-unreachable"),
        (Code::EnginePermission, "engine-permission"),
        (Code::EngineUnsupported, "engine-unsupported"),
        (Code::FileFailed, "engine-address"),
    ] {
        let found = examine(&request(directory.path(), Err(Error::new(code, "no engine")), Some("nodes: []"))).await;
        assert_eq!(failed(&found, Severity::Error), [id, "config-invalid"]);
        assert!(found.iter().any(|finding| finding.check.id == Id::DockerConfig));
    }
}

#[tokio::test]
async fn an_engine_that_fails_meanwhile_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Arc::new(FakeEngine::new(&[]).failing_at(2));
    let found = examine(&request(directory.path(), Ok(engine), None)).await;
    assert_eq!(failed(&found, Severity::Error), ["engine-unreachable"]);
}

#[tokio::test]
async fn a_configuration_is_checked_beyond_what_every_cluster_needs() {
    let directory = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let engine = Arc::new(FakeEngine::new(&[]).with_image(image("arm64")));
    let subnet: ipnet::IpNet = "10.213.0.0/16".parse().unwrap();
    let pool = AddressPool { subnet, gateway: subnet.addr(), dynamic_range: subnet };
    let spec = NetworkSpec { name: "mine".to_owned(), pools: vec![pool], mtu: None, labels: Labels::new() };
    engine.create_network(&spec).await.unwrap();
    let config = format!(
        "networking: {{nodeSubnet: 10.213.7.0/24, apiServerPort: {port}}}\n\
         nodes: [{{role: control-plane}}, {{role: control-plane}}, {{role: worker, image: 'a.example/absent:v1'}}]\n\
         registries: [{{host: a.example, login: true}}]"
    );
    let found = examine(&request(directory.path(), Ok(engine), Some(&config))).await;
    let own = ["inotify-limit", "disk-full"];
    let errors: Vec<&str> = failed(&found, Severity::Error).into_iter().filter(|id| !own.contains(id)).collect();
    assert_eq!(errors, ["node-image-platform", "port-taken", "subnet-in-use", "credentials-missing"]);
    let warnings = failed(&found, Severity::Warning);
    assert!(warnings.contains(&"node-image-missing") && warnings.contains(&"config-odd"), "{warnings:?}");
    // All of it, with what to do.
    for finding in found.iter().filter(|finding| finding.check.result.is_err()) {
        assert!(!finding.helps().is_empty(), "{finding:?}");
    }
}
