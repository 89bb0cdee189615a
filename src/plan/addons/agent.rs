//! The CNI manifest: coracle's agent, or what another node image brings. Pure.

use serde_json::{Value, json};

use crate::error::Result;
use crate::plan::layout::Layout;

/// What an agent calls the API by, so that it depends on nobody who makes services work; kind gives its agent the same.
const ENDPOINT: &str = "CONTROL_PLANE_ENDPOINT";

/// The manifest's objects with the cluster's pod subnets and endpoint filled in.
pub fn objects(layout: &Layout, manifest: &str) -> Result<Vec<Value>> {
    let subnet = layout.cluster.networking.pod_subnet.to_string();
    let text = manifest.replace("{{ .PodSubnet }}", &subnet).replace("{{.PodSubnet}}", &subnet);
    let mut objects = super::documents(&text, "the network manifest")?;
    for object in objects.iter_mut().filter(|object| object["kind"] == "DaemonSet") {
        if let Some(environment) = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut() {
            environment.push(json!({"name": ENDPOINT, "value": layout.endpoint()}));
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::layout::tests::layout;

    #[test]
    fn the_agent_is_told_subnets_and_endpoint() {
        let objects = objects(&layout(3, 0), crate::agent::MANIFEST).unwrap();
        let daemon_set = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
        let environment = &daemon_set["spec"]["template"]["spec"]["containers"][0]["env"];
        let value = |name: &str| {
            let entry = environment.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
            entry["value"].as_str().unwrap().to_owned()
        };
        assert_eq!((value("POD_SUBNETS"), value(ENDPOINT)), ("10.244.0.0/16".to_owned(), "172.18.0.2:6443".to_owned()));
    }
}
