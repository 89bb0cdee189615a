//! A URL is printed only if something answers there.

use serde_json::json;

use super::*;
use crate::cluster::found::group;
use crate::engine::spec::{Container, Labels, Protocol, State};
use crate::plan::labels;

fn cluster(ports: Vec<PortBinding>) -> Cluster {
    let labels = [(labels::CLUSTER, "dev"), (labels::ROLE, "control-plane"), (labels::ADDRESS, "172.18.0.3")];
    let labels = Labels::from(labels.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let container = Container {
        id: String::new(),
        name: "dev-control-plane".to_owned(),
        image: String::new(),
        state: State::Running,
        labels,
        addresses: Vec::new(),
        networks: Vec::new(),
        network_ids: Vec::new(),
        volumes: Vec::new(),
        ports,
        created: 0,
    };
    group(vec![container]).pop().unwrap()
}

/// A worker of the same cluster.
fn with_worker(mut cluster: Cluster) -> Cluster {
    let mut worker = cluster.nodes[0].clone();
    worker.name = "dev-worker".to_owned();
    worker.addresses = vec!["172.18.0.4".parse().unwrap()];
    cluster.nodes.push(worker);
    cluster
}

/// The URLs of a Service that has pods on the first node.
fn all_of(service: &Value, cluster: &Cluster, nodes: bool) -> Vec<String> {
    urls_of(service, &Endpoints::on("", &["dev-control-plane"]), cluster, nodes)
}

fn urls_of(service: &Value, endpoints: &Endpoints, cluster: &Cluster, nodes: bool) -> Vec<String> {
    let sight = Sight { nodes, place: Place::Host };
    of_service(service, endpoints, cluster, &sight).into_iter().map(|service| service.url).collect()
}

#[test]
fn a_published_port_comes_before_the_nodes_address() {
    let service = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}});
    let binding = PortBinding {
        host_address: "0.0.0.0".parse().unwrap(),
        host_port: 8080,
        container_port: 30080,
        protocol: Protocol::Tcp,
    };
    let urls = all_of(&service, &cluster(vec![binding]), true);
    assert_eq!(urls, ["http://127.0.0.1:8080", "http://172.18.0.3:30080"]);
    assert!(all_of(&service, &cluster(Vec::new()), false).is_empty());
}

#[test]
fn node_addresses_are_those_of_the_services_families() {
    let mut cluster = cluster(Vec::new());
    cluster.nodes[0].addresses.push("fdc0:ac1e::3".parse().unwrap());
    let urls = |families: &[&str]| -> Vec<String> {
        let ports = json!([{"port": 80, "nodePort": 30080}]);
        let service = json!({"spec": {"type": "NodePort", "ipFamilies": families, "ports": ports}});
        all_of(&service, &cluster, true)
    };
    assert_eq!(urls(&["IPv6"]), ["http://[fdc0:ac1e::3]:30080"]);
    assert_eq!(urls(&["IPv4", "IPv6"]), ["http://172.18.0.3:30080", "http://[fdc0:ac1e::3]:30080"]);
}

#[test]
fn an_address_counts_where_it_can_be_reached_and_a_tunnel_everywhere() {
    let service = json!({
        "metadata": {"namespace": "n", "name": "s"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "172.18.1.1"}]}},
    });
    let urls = |cluster: &Cluster, reaches_nodes| -> Vec<String> { all_of(&service, cluster, reaches_nodes) };
    let mut cluster = cluster(Vec::new());
    assert_eq!(urls(&cluster, true), ["http://172.18.1.1:80"]);
    assert!(urls(&cluster, false).is_empty());
    let forward = tunnel::Forward {
        service: "n/s".to_owned(),
        port: 80,
        protocol: Protocol::Tcp,
        scheme: "http".to_owned(),
        address: "172.18.1.1".parse().unwrap(),
        host_port: 8080,
    };
    let spec = tunnel::plan("dev", "image", "run", std::slice::from_ref(&forward)).spec;
    let container = cluster.nodes[0].container.clone();
    cluster.tunnel = Some(Container { labels: spec.labels, ports: spec.ports, ..container });
    assert_eq!(urls(&cluster, false), ["http://127.0.0.1:8080"]);
    assert_eq!(forward.url(), "http://127.0.0.1:8080");
}

#[test]
fn a_port_that_was_added_comes_first_and_makes_any_service_reachable() {
    let mut cluster = cluster(Vec::new());
    let mut forwarder = cluster.nodes[0].container.clone();
    let binding = |host_port| PortBinding {
        host_address: "127.0.0.1".parse().unwrap(),
        host_port,
        container_port: host_port,
        protocol: Protocol::Tcp,
    };
    forwarder.ports = vec![binding(8080)];
    forwarder.labels.insert(labels::TARGET.to_owned(), "svc/n/s:80".to_owned());
    let mut service = json!({
        "metadata": {"namespace": "n", "name": "s"},
        "spec": {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]},
    });
    assert!(!has_added_port(&service, &cluster));
    cluster.ports = vec![forwarder.clone()];
    assert!(has_added_port(&service, &cluster));
    assert_eq!(all_of(&service, &cluster, true), ["http://127.0.0.1:8080"]);
    forwarder.ports = vec![binding(8081)];
    forwarder.labels.insert(labels::TARGET.to_owned(), "30080".to_owned());
    cluster.ports = vec![forwarder.clone()];
    assert!(!has_added_port(&service, &cluster));
    service["spec"]["ports"][0]["nodePort"] = json!(30080);
    assert_eq!(all_of(&service, &cluster, true), ["http://127.0.0.1:8081", "http://172.18.0.3:30080"]);
    forwarder.state = State::Exited;
    cluster.ports = vec![forwarder];
    assert!(!has_added_port(&service, &cluster));
}

#[test]
fn a_node_that_does_not_run_is_no_address() {
    let mut cluster = with_worker(cluster(Vec::new()));
    let service = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}});
    assert_eq!(all_of(&service, &cluster, true), ["http://172.18.0.3:30080"]);
    cluster.nodes[0].container.state = State::Exited;
    assert_eq!(all_of(&service, &cluster, true), ["http://172.18.0.4:30080"]);
}

#[test]
fn with_the_local_policy_only_nodes_with_a_pod_answer() {
    let binding = PortBinding {
        host_address: "127.0.0.1".parse().unwrap(),
        host_port: 8080,
        container_port: 30080,
        protocol: Protocol::Tcp,
    };
    let mut cluster = with_worker(cluster(vec![binding]));
    cluster.nodes[1].container.ports.clear();
    let mut service = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}});
    let on_worker = Endpoints::on("", &["dev-worker"]);
    let both = ["http://127.0.0.1:8080", "http://172.18.0.3:30080"];
    assert_eq!(urls_of(&service, &on_worker, &cluster, true), both);
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    assert_eq!(urls_of(&service, &on_worker, &cluster, true), ["http://172.18.0.4:30080"]);
    assert_eq!(urls_of(&service, &Endpoints::on("", &["dev-control-plane"]), &cluster, true), both);
}

#[test]
fn a_port_without_pods_has_no_url() {
    let ports = json!([{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}]);
    let service = json!({"spec": {"type": "NodePort", "ports": ports}});
    let urls = urls_of(&service, &Endpoints::on("b", &["dev-control-plane"]), &cluster(Vec::new()), true);
    assert_eq!(urls, ["http://172.18.0.3:30081"]);
}

#[test]
fn a_service_that_never_has_a_url_says_why() {
    let why = |spec: Value| never(&json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec}));
    let (cause, hint) = why(json!({"type": "ExternalName", "externalName": "a.example"})).unwrap();
    assert!(cause.contains("`a.example`") && hint.contains("`a.example`"));
    let (cause, hint) = why(json!({"clusterIP": "None", "ports": [{"port": 5432}]})).unwrap();
    assert!(cause.contains("headless") && hint.contains("--namespace n service/s 8080:5432"), "{cause}; {hint}");
    assert!(why(json!({"type": "ClusterIP", "clusterIP": "10.96.0.7"})).unwrap().0.contains("ClusterIP"));
    assert!(why(json!({"type": "NodePort"})).is_none() && why(json!({"type": "LoadBalancer"})).is_none());
}

#[test]
fn only_the_api_server_says_that_there_is_no_service() {
    let error_of = |failure: Failure| {
        let failure = not_read(&failure, "n", "s");
        let is_unknown = failure.outlook == Outlook::Unknown;
        assert_eq!(is_unknown, failure.error.code() == Code::NotFound);
        (failure.error.code(), failure.error.to_string())
    };
    let status = |code| Failure::Status(code, String::new(), "said".to_owned());
    assert_eq!(error_of(status(404)).0, Code::NotFound);
    let (code, text) = error_of(status(403));
    assert!(code == Code::ApiFailed && text.contains("the API server is starting: said"), "{text}");
    assert_eq!(
        error_of(Failure::Transport("refused".to_owned())),
        (Code::ApiFailed, "cannot look for Service `s`: refused".to_owned())
    );
}

#[test]
fn published_ports_are_where_the_engine_is() {
    let sight = |place| Sight { nodes: false, place };
    let [any, own, one] = ["0.0.0.0", "127.0.0.1", "192.0.2.1"].map(|text| text.parse::<IpAddr>().unwrap());
    let at = |place: &Place| [any, own, one].map(|address| sight(place.clone()).of(address).unwrap_or_default());
    assert_eq!(at(&Place::Host), ["127.0.0.1", "127.0.0.1", "192.0.2.1"]);
    assert_eq!(at(&Place::Elsewhere("docker".to_owned())), ["docker", "", "192.0.2.1"]);
    assert_eq!(at(&Place::Container { id: "1".to_owned(), name: "job".to_owned() }), ["", "", "192.0.2.1"]);
}
