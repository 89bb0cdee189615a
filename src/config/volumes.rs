//! `extraVolumes`, the paths of control planes that their components see, and `containerd`, the patch of its configuration.

use serde::Serialize;
use serde_json::Value as Json;

use super::reader::{Field, Reader};
use super::syntax;
use super::value::Value;

const VOLUME: &[&str] = &["component", "hostPath", "mountPath", "readOnly", "pathType"];
const COMPONENTS: &[(&str, Component)] = &[
    ("apiServer", Component::ApiServer),
    ("controllerManager", Component::ControllerManager),
    ("scheduler", Component::Scheduler),
    ("etcd", Component::Etcd),
];
/// The types of a `hostPath` volume.
const TYPES: &[(&str, &str)] = &[
    ("DirectoryOrCreate", "DirectoryOrCreate"),
    ("Directory", "Directory"),
    ("FileOrCreate", "FileOrCreate"),
    ("File", "File"),
    ("Socket", "Socket"),
    ("CharDevice", "CharDevice"),
    ("BlockDevice", "BlockDevice"),
];
/// Where containerd's configuration has how to reach registries, which coracle sets.
const REGISTRY: [&str; 3] = ["plugins", "io.containerd.cri.v1.images", "registry"];

/// A component of the control plane, as its field is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Component {
    ApiServer,
    ControllerManager,
    Scheduler,
    Etcd,
}

impl Component {
    /// The name of its static pod.
    pub fn pod(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Etcd => "etcd",
        }
    }
}

/// A path of each control plane that a component sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraVolume {
    pub component: Component,
    /// Path in the node.
    pub host_path: String,
    /// Path in the component's container.
    pub mount_path: String,
    pub read_only: bool,
    /// The type of the `hostPath` volume, empty for any.
    pub path_type: &'static str,
}

impl Reader<'_> {
    pub(super) fn extra_volumes(&mut self, field: &Field<'_>) -> Vec<ExtraVolume> {
        let items = self.items(field).unwrap_or_default();
        items.iter().filter_map(|item| self.extra_volume(item)).collect()
    }

    fn extra_volume(&mut self, item: &Field<'_>) -> Option<ExtraVolume> {
        let fields = self.fields(item, VOLUME, &[("name", "it needs none")])?;
        let mut required = |name: &str| {
            let found = fields.get(name).cloned();
            if found.is_none() {
                self.problem(fields.mark, format!("the volume has no `{name}`"));
            }
            found
        };
        let (component, host_path, mount_path) = (required("component"), required("hostPath"), required("mountPath"));
        let component = component.and_then(|field| self.choice(&field, COMPONENTS));
        let host_path = host_path.and_then(|field| self.parsed(&field, syntax::container_path));
        let mount_path = mount_path.and_then(|field| self.parsed(&field, syntax::container_path));
        let read_only = fields.get("readOnly").map_or(Some(false), |field| self.boolean(field));
        let path_type = fields.get("pathType").map_or(Some(""), |field| self.path_type(field));
        Some(ExtraVolume {
            component: component?,
            host_path: host_path?,
            mount_path: mount_path?,
            read_only: read_only?,
            path_type: path_type?,
        })
    }

    fn path_type(&mut self, field: &Field<'_>) -> Option<&'static str> {
        // Kubernetes' word for any type.
        if matches!(&field.node.value, Value::Text(text, _) if text.is_empty()) {
            return Some("");
        }
        self.choice(field, TYPES)
    }

    /// A merge patch of containerd's configuration, version 3.
    pub(super) fn containerd(&mut self, field: &Field<'_>) -> Json {
        let mut place = field.clone();
        for step in REGISTRY {
            let entries = self.entries(&place).unwrap_or_default();
            let Some((_, below)) = entries.into_iter().find(|(name, _)| *name == step) else { return self.json(field) };
            place = below;
        }
        self.problem_at_key(&place, "how to reach registries is set by coracle; use `registries`");
        self.json(field)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Component, Overrides, load};

    fn body(text: &str) -> Result<crate::config::ClusterConfig, Vec<String>> {
        let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{text}");
        let loaded = load(&text, "c.yaml", &Overrides::default());
        loaded.map_err(|error| {
            error.problems().iter().map(|problem| format!("{} {}", problem.place, problem.message)).collect()
        })
    }

    #[test]
    fn volumes_and_patches_of_containerd_read_back_the_same() {
        let text = "extraVolumes: [{component: apiServer, hostPath: /a, mountPath: /b, readOnly: true, pathType: File}]\n\
                    containerd: {plugins: {io.containerd.cri.v1.images: {max_concurrent_downloads: 9}}}\n\
                    networking: {apiServerCertSANs: [ci.example.com, 192.0.2.10], kubeProxyMode: nftables}\n\
                    nodes: [{role: control-plane, kubeletFlags: {v: 4}}]\n";
        let cluster = body(text).unwrap();
        assert_eq!(cluster.extra_volumes[0].component, Component::ApiServer);
        assert_eq!(load(&cluster.to_text().unwrap(), "c.yaml", &Overrides::default()).unwrap(), cluster);
    }

    #[test]
    fn every_mistake_is_reported_at_its_place() {
        let text = "extraVolumes: [{component: apiserver, hostPath: a}, {component: etcd, hostPath: /a, mountPath: /b, pathType: Fil}]\n\
                    containerd: {plugins: {io.containerd.cri.v1.images: {registry: {config_path: /x}}}}\n\
                    networking: {apiServerCertSANs: [a b, 300.0.0.1]}\n\
                    nodes: [{role: control-plane, kubeletFlags: {node-labels: a=b}}]\n";
        let problems = body(text).unwrap_err();
        let wanted = [
            "3:16 the volume has no `mountPath`",
            "did you mean `apiServer`",
            "3:49 ",
            "`pathType` must be",
            "use `registries`",
            "5:34 ",
            "5:39 ",
            "6:46 ",
        ];
        assert_eq!(problems.len(), wanted.len(), "{problems:#?}");
        for (problem, part) in problems.iter().zip(wanted) {
            assert!(problem.contains(part), "{problem}");
        }
    }
}
