//! Common policies and special cases, as tables of the connections that the rules of a node accept.

use serde_json::{Value, json};

use super::*;
use crate::object::Object;
use crate::policy::objects::{NamespaceObject, PodObject};
use crate::policy::records::Record;
use crate::policy::spec::PolicyObject;

/// Node `a` has `web` and `db` of namespace `x`, and `other` of `y`; node `b` has `client` of `x` and `far` of `y`.
struct World {
    policies: Policies,
    pods: Pods,
    namespaces: Namespaces,
    records: Records,
}

fn entry<O: Object>(object: Value) -> (O::Key, O::Value) {
    let (key, value) = serde_json::from_value::<O>(object).unwrap().into_entry();
    (key, value.unwrap())
}

fn pod(namespace: &str, name: &str, node: &str, address: &str, ports: &Value) -> (NamespacedName, Pod) {
    entry::<PodObject>(json!({
        "metadata": {"namespace": namespace, "name": name, "uid": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"ports": ports}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }))
}

fn world(policies: &[Value]) -> World {
    let http = |number: u16| json!([{"name": "http", "containerPort": number}]);
    let policy = |(index, spec): (usize, &Value)| {
        let name = format!("p{index}");
        entry::<PolicyObject>(json!({"metadata": {"namespace": "x", "name": name}, "spec": spec}))
    };
    let namespace = |name: &str| {
        entry::<NamespaceObject>(json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}))
    };
    World {
        policies: policies.iter().enumerate().map(policy).collect(),
        pods: Pods::from([
            pod("x", "web", "a", "10.0.0.1", &http(8080)),
            pod("x", "db", "a", "10.0.0.2", &http(9090)),
            pod("y", "other", "a", "10.0.0.3", &json!([])),
            pod("x", "client", "b", "10.0.1.1", &http(7070)),
            pod("y", "far", "b", "10.0.1.2", &json!([])),
        ]),
        namespaces: Namespaces::from([namespace("x"), namespace("y")]),
        records: Records::new(),
    }
}

impl World {
    fn rules(&self) -> RuleSet {
        let Self { policies, pods, namespaces, records } = self;
        compile(&Cluster { node: "a", policies, pods, namespaces, records })
    }

    /// Whether node `a` accepts this connection, computed from the rules as the kernel does it.
    fn passes(&self, from: &str, to: &str, port: u16) -> bool {
        self.passes_by(Protocol::Tcp, from, to, port)
    }

    fn passes_by(&self, protocol: Protocol, from: &str, to: &str, port: u16) -> bool {
        let rules = self.rules();
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let accepts = |verdicts: &BTreeMap<IpAddr, String>, own: IpAddr, remote: IpAddr| {
            let Some(selection) = verdicts.get(&own) else { return true };
            let chains = rules.selections[selection].iter().map(|chain| &rules.policies[chain]);
            let mut accepts = chains.flat_map(|chain| &chain.accepts);
            accepts.any(|accept| {
                let is_meant = match &accept.remote {
                    Remote::Any => true,
                    Remote::Set(name) => matches!(&rules.sets[name], Set::Addresses(all) if all.contains(&remote)),
                    Remote::Block { cidr, except } => {
                        cidr.contains(&remote) && !except.iter().any(|except| except.contains(&remote))
                    }
                };
                let is_served = |service: &Service| match service {
                    Service::Any => true,
                    Service::Protocol(of) => *of == protocol,
                    Service::Ports(of, first, last) => *of == protocol && (*first..=*last).contains(&port),
                    Service::Set(of, name) => {
                        *of == protocol && matches!(&rules.sets[name], Set::Sockets(all) if all.contains(&(to, port)))
                    }
                    Service::List(_) => false,
                };
                is_meant
                    && match &accept.service {
                        Service::List(name) => rules.services[name].iter().any(is_served),
                        service => is_served(service),
                    }
            })
        };
        accepts(&rules.egress, from, to) && accepts(&rules.ingress, to, from)
    }
}

const WEB: &str = "10.0.0.1";
const DB: &str = "10.0.0.2";
const OTHER: &str = "10.0.0.3";
const CLIENT: &str = "10.0.1.1";
const FAR: &str = "10.0.1.2";
const OUTSIDE: &str = "203.0.113.9";

/// For one set of policies: source, target and port of connections, and whether they pass.
fn check(what: &str, policies: &[Value], connections: &[(&str, &str, u16, bool)]) {
    let world = world(policies);
    for (from, to, port, passes) in connections {
        assert_eq!(world.passes(from, to, *port), *passes, "{what}: {from} to {to}:{port}");
    }
}

#[test]
fn without_a_policy_for_a_pod_of_the_node_there_are_no_rules() {
    assert!(world(&[]).rules().is_empty());
    // `client` is on the other node.
    let rules = world(&[json!({"podSelector": {"matchLabels": {"app": "client"}}})]).rules();
    assert_eq!(rules, RuleSet::default());
}

#[test]
fn the_usual_recipes_for_what_comes_in() {
    let web = json!({"matchLabels": {"app": "web"}});
    let from = |peer: Value| vec![json!({"podSelector": web, "ingress": [{"from": [peer]}]})];
    check(
        "deny all",
        &[json!({"podSelector": {}})],
        &[(CLIENT, WEB, 80, false), (WEB, DB, 80, false), (WEB, CLIENT, 80, true), (CLIENT, OTHER, 80, true)],
    );
    check(
        "allow all",
        &[json!({"podSelector": {}, "ingress": [{}]})],
        &[(CLIENT, WEB, 80, true), (OUTSIDE, WEB, 1, true)],
    );
    check(
        "from a label",
        &from(json!({"podSelector": {"matchLabels": {"app": "client"}}})),
        &[(CLIENT, WEB, 80, true), (DB, WEB, 80, false), (FAR, WEB, 80, false), (DB, CLIENT, 80, true)],
    );
    check("from the same namespace", &from(json!({"podSelector": {}})), &[(DB, WEB, 80, true), (FAR, WEB, 80, false)]);
    let y = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["y"]}]});
    check("from a namespace", &from(json!({"namespaceSelector": y})), &[(FAR, WEB, 80, true), (DB, WEB, 80, false)]);
    check(
        "from every namespace",
        &from(json!({"namespaceSelector": {}})),
        &[(FAR, WEB, 80, true), (DB, WEB, 80, true), (OUTSIDE, WEB, 80, false)],
    );
    let both = json!({"namespaceSelector": y, "podSelector": {"matchLabels": {"app": "far"}}});
    check("from a label in a namespace", &from(both), &[(FAR, WEB, 80, true), (OTHER, WEB, 80, false)]);
    let block = json!({"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.1.0/24"]}});
    check("from addresses", &from(block), &[(DB, WEB, 80, true), (CLIENT, WEB, 80, false), (OUTSIDE, WEB, 80, false)]);
}

#[test]
fn the_usual_recipes_for_what_goes_out() {
    let web = json!({"matchLabels": {"app": "web"}});
    let egress = |rules: Value| vec![json!({"podSelector": web, "policyTypes": ["Egress"], "egress": rules})];
    check(
        "deny all",
        &egress(json!([])),
        &[(WEB, DB, 80, false), (WEB, OUTSIDE, 80, false), (DB, WEB, 80, true), (OUTSIDE, WEB, 80, true)],
    );
    check(
        "to a label",
        &egress(json!([{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]}])),
        &[(WEB, DB, 80, true), (WEB, CLIENT, 80, false)],
    );
    check(
        "to the world only",
        &egress(json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}])),
        &[(WEB, OUTSIDE, 443, true), (WEB, CLIENT, 443, false)],
    );
    let dns = world(&egress(json!([{"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]}])));
    assert!(dns.passes_by(Protocol::Udp, WEB, FAR, 53) && dns.passes(WEB, FAR, 53));
    assert!(!dns.passes_by(Protocol::Sctp, WEB, FAR, 53) && !dns.passes(WEB, FAR, 80));
}

#[test]
fn ports_by_number_range_protocol_and_name() {
    let ingress = |ports: Value| vec![json!({"podSelector": {}, "ingress": [{"ports": ports}]})];
    check("a number", &ingress(json!([{"port": 80}])), &[(FAR, WEB, 80, true), (FAR, WEB, 81, false)]);
    check(
        "a range",
        &ingress(json!([{"port": 80, "endPort": 90}])),
        &[(FAR, WEB, 80, true), (FAR, WEB, 90, true), (FAR, WEB, 91, false), (FAR, WEB, 79, false)],
    );
    check("a protocol", &ingress(json!([{"protocol": "TCP"}])), &[(FAR, WEB, 1, true)]);
    check("another protocol", &ingress(json!([{"protocol": "SCTP"}])), &[(FAR, WEB, 1, false)]);
    // The name is a different number in each pod.
    check(
        "a name",
        &ingress(json!([{"port": "http"}])),
        &[(FAR, WEB, 8080, true), (FAR, DB, 9090, true), (FAR, WEB, 9090, false), (FAR, DB, 8080, false)],
    );
    check("a name that no pod has", &ingress(json!([{"port": "metrics"}])), &[(FAR, WEB, 8080, false)]);
    check(
        "a name of another protocol",
        &ingress(json!([{"port": "http", "protocol": "UDP"}])),
        &[(FAR, WEB, 8080, false)],
    );
}

#[test]
fn names_of_ports_are_those_of_the_pod_connected_to() {
    let egress = |to: Value| {
        let rule = if to.is_null() {
            json!({"ports": [{"port": "http"}]})
        } else {
            json!({"to": [to], "ports": [{"port": "http"}]})
        };
        vec![json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [rule]})]
    };
    check(
        "to anybody",
        &egress(Value::Null),
        &[(WEB, DB, 9090, true), (WEB, CLIENT, 7070, true), (WEB, CLIENT, 9090, false)],
    );
    check(
        "to a label",
        &egress(json!({"podSelector": {"matchLabels": {"app": "db"}}})),
        &[(WEB, DB, 9090, true), (WEB, CLIENT, 7070, false)],
    );
    check(
        "to addresses",
        &egress(json!({"ipBlock": {"cidr": "10.0.1.0/24"}})),
        &[(WEB, CLIENT, 7070, true), (WEB, DB, 9090, false)],
    );
}

#[test]
fn policies_add_up_and_types_keep_to_themselves() {
    let web = json!({"matchLabels": {"app": "web"}});
    let from = |app: &str| json!({"podSelector": web, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": app}}}]}]});
    let policies = [json!({"podSelector": {}}), from("db"), from("client")];
    check("sum", &policies, &[(DB, WEB, 1, true), (CLIENT, WEB, 1, true), (OTHER, WEB, 1, false), (WEB, DB, 1, false)]);
    let out = json!({"podSelector": web, "policyTypes": ["Egress"], "ingress": [{}]});
    check("egress only", &[out], &[(DB, WEB, 1, true), (WEB, DB, 1, false)]);
    let both = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}]});
    check("an end of the connection is not enough", &[both], &[(DB, WEB, 1, false), (OTHER, WEB, 1, true)]);
}

#[test]
fn a_new_pod_changes_a_set_and_nothing_else() {
    let policy = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "api"}}}]}]});
    let mut world = world(&[policy]);
    let before = world.rules();
    let (key, mut newcomer) = pod("x", "new", "b", "10.0.1.9", &json!([]));
    newcomer.labels.insert("role".to_owned(), "api".to_owned());
    world.pods.insert(key, newcomer);
    let after = world.rules();
    assert_ne!(before.sets, after.sets);
    assert_eq!(RuleSet { sets: before.sets.clone(), ..after }, before);
}

#[test]
fn an_address_belongs_to_the_pod_that_got_it_last() {
    let mut world = world(&[json!({"podSelector": {"matchLabels": {"app": "web"}}})]);
    let record = |address: &str| Record { container: "c".to_owned(), addresses: vec![address.parse().unwrap()] };
    let name = |name: &str| NamespacedName { namespace: "x".to_owned(), name: name.to_owned() };
    world.records.insert(name("web"), record("10.0.0.7"));
    assert!(!world.passes(CLIENT, "10.0.0.7", 80), "before the API knows");
    assert!(world.passes(CLIENT, WEB, 80), "the old address belongs to no pod");
    world.records.remove(&name("web"));
    world.records.insert(name("db"), record(WEB));
    assert!(world.passes(CLIENT, WEB, 80), "assigned to another pod, while the API still has the old one");
}

#[test]
fn a_sandbox_without_its_pod_may_do_nothing_where_there_are_policies() {
    let policy = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]});
    let mut world = world(&[policy]);
    let record = |address: &str| Record { container: "c".to_owned(), addresses: vec![address.parse().unwrap()] };
    let name = |namespace: &str, name: &str| NamespacedName { namespace: namespace.to_owned(), name: name.to_owned() };
    world.records.insert(name("x", "gone"), record("10.0.0.7"));
    world.records.insert(name("y", "gone"), record("10.0.0.8"));
    // It has the name of a pod that is on the other node now.
    world.records.insert(name("x", "client"), record("10.0.0.9"));
    assert!(!world.passes(FAR, "10.0.0.7", 80) && !world.passes(FAR, "10.0.0.9", 80));
    assert!(world.passes("10.0.0.7", FAR, 80), "the policies are for ingress only");
    assert!(world.passes(FAR, "10.0.0.8", 80), "no policy in this namespace");
    assert!(world.passes(FAR, WEB, 80));
}

#[test]
fn long_names_are_cut_and_stay_different() {
    let name = |end: &str| NamespacedName { namespace: "n".repeat(63), name: format!("{}{end}", "p".repeat(252)) };
    let [first, second] = ["a", "b"].map(|end| chain_name(Direction::Ingress, &name(end)));
    assert!(first.len() < 255 && second.len() < 255 && first != second);
}
