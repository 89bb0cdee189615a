//! The CNI manifest: coracle's agent, or that of another node image. Pure.

use serde_json::{Value, json};

use crate::config::KubeProxyMode;
use crate::error::Result;
use crate::plan::layout::Layout;
use crate::plan::objects::documents::documents;

/// The endpoint of the API, so that the agent does not depend on services; kind passes the same variable to its agent.
const ENDPOINT: &str = "CONTROL_PLANE_ENDPOINT";
/// The subnets for addresses of `LoadBalancer` services.
const LOAD_BALANCER_SUBNETS: &str = "LOAD_BALANCER_SUBNETS";
/// The subnets of services, if kube-proxy translates their addresses.
const SERVICE_SUBNETS: &str = "SERVICE_SUBNETS";
/// How kind calls its network in the labels of pods.
const KINDNET: &str = "kindnet";
/// `off` leaves routes, masquerading and the CNI configuration to another plugin.
const POD_NETWORK: &str = "POD_NETWORK";

/// The manifest's objects, with the cluster's pod subnets, its endpoint and the agent's tasks filled in.
///
/// Without the default CNI the agent still runs if it has to find addresses for services.
pub fn objects(layout: &Layout, manifest: &str) -> Result<Vec<Value>> {
    let networking = &layout.cluster.networking;
    let subnet = networking.pod_subnet.to_string();
    let text = manifest.replace("{{ .PodSubnet }}", &subnet).replace("{{.PodSubnet}}", &subnet);
    let mut objects = documents(&text, "the network manifest")?;
    let mut is_ours = false;
    for object in objects.iter_mut().filter(|object| object["kind"] == "DaemonSet") {
        is_ours |= object["metadata"]["name"] == "coracle-agent";
        if layout.cluster.kind_network.is_some() {
            label_as_kind(object);
        }
        if let Some(environment) = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut() {
            environment.push(json!({"name": ENDPOINT, "value": layout.endpoint()}));
            if networking.kube_proxy_mode != KubeProxyMode::None {
                let subnet = networking.service_subnet.to_string();
                environment.push(json!({"name": SERVICE_SUBNETS, "value": subnet}));
            }
            if networking.load_balancer {
                environment.push(json!({"name": LOAD_BALANCER_SUBNETS, "value": load_balancer_subnets(layout)}));
            }
            if networking.disable_default_cni {
                environment.push(json!({"name": POD_NETWORK, "value": "off"}));
            }
        }
    }
    if networking.disable_default_cni && !(is_ours && networking.load_balancer) {
        objects.clear();
    }
    Ok(objects)
}

/// Labels the pods as those of kind's network are, which tools wait for, e.g. the provider of sigs.k8s.io/e2e-framework.
fn label_as_kind(set: &mut Value) {
    for place in ["/metadata/labels", "/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        let labels = set.pointer_mut(place).and_then(Value::as_object_mut);
        for (_, value) in labels.into_iter().flatten().filter(|(name, _)| ["app", "k8s-app"].contains(&name.as_str())) {
            *value = json!(KINDNET);
        }
    }
}

/// The part of the cluster's network for addresses of services, for each family.
fn load_balancer_subnets(layout: &Layout) -> String {
    let division = |v4| if v4 { Some(layout.division) } else { layout.division_v6 };
    let subnets = layout.cluster.networking.families().filter_map(division);
    subnets.map(|division| division.services.to_string()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::layout::tests::layout;

    const OTHER: &str =
        "kind: DaemonSet\nmetadata: {name: other}\nspec: {template: {spec: {containers: [{name: other}]}}}\n";

    /// The agent's environment, if there is an agent.
    fn environment(layout: &Layout) -> Option<Vec<String>> {
        let objects = objects(layout, crate::agent::MANIFEST).unwrap();
        let agent = objects.into_iter().find(|object| object["kind"] == "DaemonSet")?;
        let environment = agent["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
        let text = |entry: &Value| {
            let value = entry["value"].as_str().unwrap_or("?");
            format!("{}={value}", entry["name"].as_str().unwrap())
        };
        Some(environment.iter().map(text).collect())
    }

    #[test]
    fn the_agent_gets_subnets_and_endpoint() {
        let environment = environment(&layout(3, 0)).unwrap();
        for expected in [
            "POD_SUBNETS=10.244.0.0/16",
            "SERVICE_SUBNETS=10.96.0.0/16",
            "CONTROL_PLANE_ENDPOINT=172.18.0.2:6443",
            "LOAD_BALANCER_SUBNETS=172.18.1.0/24",
        ] {
            assert!(environment.iter().any(|variable| variable == expected), "{expected} is not in {environment:?}");
        }
    }

    #[test]
    fn the_agent_does_what_is_not_switched_off() {
        let settings = |load_balancer: bool, disable_default_cni: bool| {
            let mut layout = layout(1, 0);
            layout.cluster.networking.load_balancer = load_balancer;
            layout.cluster.networking.disable_default_cni = disable_default_cni;
            let has = |name: &str, all: &[String]| all.iter().any(|variable| variable.starts_with(&format!("{name}=")));
            environment(&layout).map(|all| (has(LOAD_BALANCER_SUBNETS, &all), has(POD_NETWORK, &all)))
        };
        assert_eq!(settings(true, false), Some((true, false)));
        assert_eq!(settings(false, false), Some((false, false)));
        assert_eq!(settings(true, true), Some((true, true)));
        assert_eq!(settings(false, true), None);
    }

    #[test]
    fn a_cluster_that_looks_like_kinds_has_a_network_with_its_labels() {
        let mut layout = layout(1, 0);
        let labels = |layout: &Layout| {
            let objects = objects(layout, crate::agent::MANIFEST).unwrap();
            let set = objects.into_iter().find(|object| object["kind"] == "DaemonSet").unwrap();
            assert_eq!(
                set["spec"]["selector"]["matchLabels"]["app"],
                set["spec"]["template"]["metadata"]["labels"]["app"]
            );
            set["spec"]["template"]["metadata"]["labels"].clone()
        };
        assert_eq!(labels(&layout)["k8s-app"], "coracle-agent");
        layout.cluster.kind_network = Some("kind".to_owned());
        assert_eq!(labels(&layout), json!({"app": "kindnet", "k8s-app": "kindnet", "tier": "node"}));
    }

    #[test]
    fn without_kube_proxy_the_agent_leaves_services_to_another_program() {
        let mut layout = layout(1, 0);
        layout.cluster.networking.kube_proxy_mode = KubeProxyMode::None;
        assert!(!environment(&layout).unwrap().iter().any(|variable| variable.starts_with(SERVICE_SUBNETS)));
    }

    #[test]
    fn the_network_of_another_node_image_is_left_out_when_it_is_switched_off() {
        let mut layout = layout(1, 0);
        assert_eq!(objects(&layout, OTHER).unwrap().len(), 1);
        layout.cluster.networking.disable_default_cni = true;
        assert!(objects(&layout, OTHER).unwrap().is_empty());
    }
}
