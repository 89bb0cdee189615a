//! The storage provisioner: the node image's manifest, with the directory that all nodes of a cluster share. Pure.

use serde_json::{Value, json};

use crate::error::Result;
use crate::plan::layout::Layout;
use crate::plan::node::container::VOLUMES;
use crate::plan::objects::documents::documents;

/// The file in the provisioner's ConfigMap with the directory of volumes.
const CONFIG: &str = "config.json";
/// With `persist`, a claim of the same name gets the same directory in the next cluster too.
const PATH_OF_CLAIM: &str = "{{ .PVC.Namespace }}/{{ .PVC.Name }}";

/// The manifest's objects.
pub(crate) fn objects(layout: &Layout, manifest: &str) -> Result<Vec<Value>> {
    let mut objects = documents(manifest, "the storage manifest")?;
    for object in &mut objects {
        if object["kind"] == "ConfigMap" && object["data"][CONFIG].is_string() {
            // All nodes share it, so volumes have every access mode and belong to no node.
            object["data"][CONFIG] = json!(json!({"sharedFileSystemPath": VOLUMES}).to_string());
        }
        if object["kind"] == "StorageClass" && layout.cluster.persist.is_some() {
            object["parameters"] = json!({"pathPattern": PATH_OF_CLAIM});
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::layout::tests::layout;

    const MANIFEST: &str = include_str!("../../../node-image/rootfs/kind/manifests/default-storage.yaml");

    fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
        objects.iter().find(|object| object["kind"] == kind).unwrap()
    }

    #[test]
    fn volumes_are_in_the_directory_that_all_nodes_share() {
        let objects = objects(&layout(1, 2), MANIFEST).unwrap();
        let config = find(&objects, "ConfigMap")["data"][CONFIG].as_str().unwrap();
        assert_eq!(config, r#"{"sharedFileSystemPath":"/var/local-path-provisioner"}"#);
        assert_eq!(find(&objects, "StorageClass").get("parameters"), None);
    }

    #[test]
    fn volumes_that_persist_are_named_by_their_claim() {
        let mut layout = layout(1, 0);
        layout.cluster.persist = Some("/data".to_owned());
        let objects = objects(&layout, MANIFEST).unwrap();
        assert_eq!(find(&objects, "StorageClass")["parameters"]["pathPattern"], PATH_OF_CLAIM);
    }

    #[test]
    fn no_volume_is_made_or_removed_outside_of_the_directory_of_volumes() {
        let objects = objects(&layout(1, 0), MANIFEST).unwrap();
        let data = &find(&objects, "ConfigMap")["data"];
        let outside = tempfile::tempdir().unwrap();
        let kept = outside.path().join("kept");
        std::fs::write(&kept, "").unwrap();
        let outside = outside.path().to_str().unwrap();
        let above = format!("{VOLUMES}/..{outside}");
        for (script, directory) in ["setup", "teardown"].into_iter().flat_map(|script| {
            [outside, above.as_str(), VOLUMES, "/var/local-path-provisioner/.", "/"].map(|place| (script, place))
        }) {
            let text = data[script].as_str().unwrap();
            // Nothing is run but the check.
            let text = text.replace("rm -rf", "echo rm").replace("mkdir -m", "echo mkdir");
            let shell =
                std::process::Command::new("sh").args(["-c", &text]).env("VOL_DIR", directory).output().unwrap();
            assert!(!shell.status.success() && shell.stdout.is_empty(), "{script} of {directory}");
        }
        for script in ["setup", "teardown"] {
            let text = data[script].as_str().unwrap().replace("rm -rf", "echo rm").replace("mkdir -m", "echo mkdir");
            let inside = format!("{VOLUMES}/n/pvc-1..2");
            let shell = std::process::Command::new("sh").args(["-c", &text]).env("VOL_DIR", &inside).output().unwrap();
            assert!(String::from_utf8_lossy(&shell.stdout).contains(&inside), "{script}");
        }
    }

    #[test]
    fn volumes_are_made_whatever_pod_security_is_enforced_in_the_cluster() {
        let objects = objects(&layout(1, 0), MANIFEST).unwrap();
        let labels = &find(&objects, "Namespace")["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "privileged");
    }
}
