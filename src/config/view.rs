//! A configuration as text and as JSON.

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{API_VERSION, ClusterConfig, Durability, KIND, Role, Taint, TaintEffect};
use crate::error::{Code, Error, Result};
use crate::yaml;

/// A whole file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'a str,
    kind: &'a str,
    #[serde(flatten)]
    cluster: &'a ClusterConfig,
}

impl ClusterConfig {
    fn document(&self) -> Document<'_> {
        Document { api_version: API_VERSION, kind: KIND, cluster: self }
    }

    /// The cluster as a configuration file with all fields, from which [`load()`](super::load()) makes the same cluster.
    pub fn to_text(&self) -> Result<String> {
        yaml::to_string(&self.document())
    }

    /// The same for people: also with what [`Self::to_text`] leaves out because it is the default, so that nothing has to be
    /// looked up. What only the engine knows, such as the newest node image, is missing.
    pub fn effective(&self) -> Result<Json> {
        let is_single = self.nodes.len() == 1;
        let usual = || Taint {
            key: Role::CONTROL_PLANE_TAINT.to_owned(),
            value: String::new(),
            effect: TaintEffect::NoSchedule,
        };
        let mut shown = self.clone();
        for node in &mut shown.nodes {
            let has_one = node.role == Role::ControlPlane && !is_single;
            node.taints.get_or_insert_with(|| if has_one { vec![usual()] } else { Vec::new() });
        }
        let mut value = serde_json::to_value(shown.document())
            .map_err(|source| Error::new(Code::StepFailed, "cannot write JSON").with_cause(&source))?;
        if self.durability == Durability::Safe {
            value["durability"] = json!(self.durability);
        }
        for (name, is_default) in [
            ("extraVolumes", self.extra_volumes.is_empty()),
            ("registries", self.registries.is_empty()),
            ("images", self.images.is_empty()),
            ("addons", self.addons.is_empty()),
            ("manifests", self.manifests.is_empty()),
        ] {
            if is_default {
                value[name] = json!([]);
            }
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterName, Overrides, load};

    #[test]
    fn what_is_effective_is_the_same_cluster_with_its_defaults() {
        let text = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes: [{role: control-plane}, {role: worker}]\n";
        let cluster = load(text, "c.yaml", &Overrides::default()).unwrap();
        let value = cluster.effective().unwrap();
        assert_eq!(value["nodes"][0]["taints"][0]["key"], "node-role.kubernetes.io/control-plane");
        assert_eq!((&value["nodes"][1]["taints"], &value["durability"]), (&json!([]), &json!("safe")));
        let again = load(&yaml::to_string(&value).unwrap(), "again.yaml", &Overrides::default()).unwrap();
        let mut taints = again.nodes.iter().map(|node| node.taints.as_ref().map(Vec::len));
        assert_eq!((taints.next(), taints.next()), (Some(Some(1)), Some(Some(0))));
        let mut plain = again;
        plain.nodes.iter_mut().for_each(|node| node.taints = None);
        assert_eq!(plain, cluster);
    }

    #[test]
    fn a_single_node_takes_pods() {
        let value = ClusterConfig::new(ClusterName::default()).effective().unwrap();
        assert_eq!((&value["nodes"][0]["taints"], &value["apiVersion"]), (&json!([]), &json!(API_VERSION)));
        assert_eq!(value["networking"]["podSubnet"], "10.244.0.0/16");
    }
}
