//! What is unknown is neither well nor ill, and whoever is to blame is named.

use serde_json::json;

use super::*;

fn node() -> NodeStatus {
    NodeStatus {
        name: "a".to_owned(),
        role: "worker".to_owned(),
        container: State::Running,
        address: String::new(),
        version: String::new(),
        image: String::new(),
        ready: None,
        cause: None,
    }
}

fn judged(list: Result<Value, &str>, look: &Look) -> (Option<bool>, Option<String>) {
    let mut node = node();
    judge(&mut node, &list.map_err(str::to_owned), look);
    (node.ready, node.cause)
}

fn list(status: &str) -> Value {
    let ready = json!({"type": "Ready", "status": status, "message": "no network"});
    json!({"items": [{"metadata": {"name": "a"}, "status": {"conditions": [ready]}}]})
}

fn fault(component: &str) -> Fault {
    Fault { component: component.to_owned(), what: "does not answer", cause: "refused".to_owned() }
}

#[test]
fn without_a_list_of_nodes_nobody_is_blamed() {
    assert_eq!(judged(Err("no answer"), &Look::default()), (None, None));
    assert_eq!(judged(Ok(list("True")), &Look::default()), (Some(true), None));
    let cause = |text: &str| Some(text.to_owned());
    assert_eq!(judged(Ok(list("False")), &Look::default()), (Some(false), cause("no network")));
    assert_eq!(judged(Ok(json!({"items": []})), &Look::default()), (Some(false), cause("it has not registered")));
}

#[test]
fn a_node_is_well_only_if_every_component_is() {
    let look = Look { faults: vec![fault("etcd")], ..Look::default() };
    let (ready, cause) = judged(Ok(list("True")), &look);
    assert_eq!((ready, cause.as_deref()), (Some(false), Some("etcd does not answer: refused")));
    // What the log says stands in for the symptom, and the other symptoms stay.
    let failure = Some("etcd keeps failing: unknown flag".to_owned());
    let look = Look { faults: vec![fault("etcd"), fault("kubelet")], failure, ..Look::default() };
    let (ready, cause) = judged(Err("no answer"), &look);
    let told = "etcd keeps failing: unknown flag; the kubelet does not answer: refused";
    assert_eq!((ready, cause.as_deref()), (Some(false), Some(told)));
}

#[test]
fn a_node_that_cannot_be_asked_is_unknown() {
    let look = Look { unknown: Some("no answer within 20 s".to_owned()), ..Look::default() };
    assert_eq!(judged(Ok(list("True")), &look), (None, Some("no answer within 20 s".to_owned())));
    let mut stopped = NodeStatus { container: State::Exited, ..node() };
    judge(&mut stopped, &Err("no answer".to_owned()), &look);
    assert_eq!((stopped.ready, stopped.cause.as_deref()), (Some(false), Some("its container is exited")));
}

#[test]
fn the_load_balancer_is_to_blame_only_if_the_api_servers_work() {
    let judged = |container, api: &Api, works| {
        let mut balancer = NodeStatus { container, ..node() };
        judge_balancer(&mut balancer, api, works);
        balancer.ready
    };
    let silent = Api::Silent("refused".to_owned());
    assert_eq!(judged(State::Running, &Api::Ready, true), Some(true));
    assert_eq!(judged(State::Running, &Api::Unready("etcd".to_owned()), false), Some(true));
    assert_eq!(judged(State::Running, &silent, true), Some(false));
    assert_eq!(judged(State::Running, &silent, false), None);
    assert_eq!(judged(State::Exited, &silent, true), Some(false));
}

#[test]
fn a_node_where_kube_proxy_keeps_ending_is_ill() {
    let pod = |node: &str, label: &str, state: Value| {
        let ready = json!({"type": "Ready", "status": if state["running"].is_null() { "False" } else { "True" }});
        json!({"metadata": {"name": "p", "labels": {"k8s-app": label}}, "spec": {"nodeName": node},
            "status": {"conditions": [ready], "containerStatuses": [{"state": state, "lastState": {"terminated": {"reason": "Error"}}}]}})
    };
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
    let judged = |pods: Value| {
        let mut node = NodeStatus { ready: Some(true), ..node() };
        judge_pods(&mut node, &json!({"items": [pods]}));
        (node.ready, node.cause)
    };
    let cause = Some("pod p: CrashLoopBackOff: back-off 10s".to_owned());
    assert_eq!(judged(pod("a", "kube-proxy", waiting.clone())), (Some(false), cause));
    // Elsewhere, of a user, or started again since.
    assert_eq!(judged(pod("b", "kube-proxy", waiting.clone())), (Some(true), None));
    assert_eq!(judged(pod("a", "web", waiting)), (Some(true), None));
    assert_eq!(judged(pod("a", "kube-proxy", json!({"running": {}}))), (Some(true), None));
}
