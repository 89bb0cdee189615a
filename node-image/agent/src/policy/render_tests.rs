//! Scripts for nft, word for word; `tests/policy.rs` shows that nft and the kernel accept them.

use super::super::rules::Chain;
use super::*;

const FOUR: &[Family] = &[Family::Four];
const BOTH: &[Family] = &[Family::Four, Family::Six];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn chain(accepts: Vec<Accept>) -> Chain {
    Chain { direction: Direction::Ingress, accepts }
}

/// One pod that is isolated for ingress, with one policy.
fn rules(members: &[&str], accepts: Vec<Accept>) -> RuleSet {
    let members = members.iter().map(|text| address(text)).collect();
    RuleSet {
        sets: BTreeMap::from([("peers-1".to_owned(), Set::Addresses(members))]),
        policies: BTreeMap::from([("ingress/n/p".to_owned(), chain(accepts))]),
        services: BTreeMap::new(),
        selections: BTreeMap::from([("pods-1".to_owned(), vec!["ingress/n/p".to_owned()])]),
        ingress: BTreeMap::from([(address("10.0.0.2"), "pods-1".to_owned())]),
        egress: BTreeMap::new(),
    }
}

fn from_set(service: Service) -> Accept {
    Accept { remote: Remote::Set("peers-1".to_owned()), service }
}

#[test]
fn the_whole_table_is_created_in_one_transaction() {
    let rules = rules(&["10.0.0.7", "fd00::7"], vec![from_set(Service::Ports(Protocol::Tcp, 80, 80))]);
    assert_eq!(
        full(&rules, FOUR),
        "add table ip coracle-policy
delete table ip coracle-policy
table ip coracle-policy {
 map ingress { type ipv4_addr : verdict; }
 map egress { type ipv4_addr : verdict; }
 set own { type ipv4_addr . ipv4_addr; }
 chain forward-egress {
  type filter hook forward priority 0; policy accept;
  ct state invalid,untracked drop
  ct original ip saddr . ct reply ip saddr @own accept
  ct original ip saddr vmap @egress
 }
 chain forward-ingress {
  type filter hook forward priority 1; policy accept;
  ct original ip saddr . ct reply ip saddr @own accept
  ct reply ip saddr vmap @ingress
 }
 chain input {
  type filter hook input priority 110; policy accept;
  ct original ip saddr vmap @egress
 }
 chain output-egress {
  type filter hook output priority 0; policy accept;
  ct original ip saddr . ct reply ip saddr @own accept
  ct original ip saddr vmap @egress
 }
 chain output-ingress {
  type filter hook output priority 1; policy accept;
  fib saddr type local accept
  ct original ip saddr . ct reply ip saddr @own accept
  ct reply ip saddr vmap @ingress
 }
}
table ip coracle-policy {
 set peers-1 { type ipv4_addr; elements = { 10.0.0.7 }; }
 chain ingress/n/p {
  ct original ip saddr @peers-1 meta l4proto tcp ct reply proto-src 80 accept
 }
 chain pods-1 {
  jump ingress/n/p
  drop
 }
}
add element ip coracle-policy ingress { 10.0.0.2 : goto pods-1 }
add element ip coracle-policy own { 10.0.0.2 . 10.0.0.2 }
"
    );
}

#[test]
fn nothing_to_enforce_is_no_table() {
    let expected = "add table ip coracle-policy\ndelete table ip coracle-policy\n";
    assert_eq!(full(&RuleSet::default(), BOTH), format!("{expected}{}", expected.replace("ip ", "ip6 ")));
}

#[test]
fn a_change_has_only_what_is_new() {
    let old = rules(&["10.0.0.7"], vec![from_set(Service::Any)]);
    assert_eq!(update(&old, &old.clone(), BOTH), "");
    assert_eq!(
        update(&old, &rules(&["10.0.0.8", "fd00::8"], vec![from_set(Service::Any)]), BOTH),
        "delete element ip coracle-policy peers-1 { 10.0.0.7 }
add element ip coracle-policy peers-1 { 10.0.0.8 }
add element ip6 coracle-policy peers-1 { fd00::8 }
"
    );
    let port = rules(&["10.0.0.7"], vec![from_set(Service::Protocol(Protocol::Udp))]);
    assert_eq!(
        update(&old, &port, FOUR),
        "flush chain ip coracle-policy ingress/n/p
table ip coracle-policy {
 chain ingress/n/p {
  ct original ip saddr @peers-1 meta l4proto udp accept
 }
}
"
    );
    let mut denied = old.clone();
    (denied.sets, denied.policies) = (BTreeMap::new(), BTreeMap::new());
    denied.selections = BTreeMap::from([("pods-2".to_owned(), vec![])]);
    denied.ingress = BTreeMap::from([(address("10.0.0.2"), "pods-2".to_owned())]);
    assert_eq!(
        update(&old, &denied, FOUR),
        "table ip coracle-policy {
 chain pods-2 {
  drop
 }
}
delete element ip coracle-policy ingress { 10.0.0.2 }
add element ip coracle-policy ingress { 10.0.0.2 : goto pods-2 }
flush chain ip coracle-policy pods-1
delete chain ip coracle-policy pods-1
flush chain ip coracle-policy ingress/n/p
delete chain ip coracle-policy ingress/n/p
delete set ip coracle-policy peers-1
"
    );
}

#[test]
fn a_list_of_ports_is_a_chain_of_its_own() {
    let mut new = rules(&["10.0.0.7"], vec![from_set(Service::List("services-1".to_owned()))]);
    let old = new.clone();
    let ports = vec![Service::Ports(Protocol::Tcp, 80, 80), Service::Protocol(Protocol::Udp)];
    new.services.insert("services-1".to_owned(), ports);
    assert_eq!(
        update(&old, &new, FOUR),
        "table ip coracle-policy {
 chain services-1 {
  meta l4proto tcp ct reply proto-src 80 accept
  meta l4proto udp accept
 }
}
"
    );
    let removed = "flush chain ip coracle-policy services-1\ndelete chain ip coracle-policy services-1\n";
    assert_eq!(update(&new, &old, FOUR), removed);
}

#[test]
fn each_accept_is_a_line_in_the_families_that_it_can_be_about() {
    let line = |family, direction, remote, service| {
        let mut script = Script { text: String::new(), family };
        script.accept(direction, &Accept { remote, service });
        script.text.trim().to_owned()
    };
    let four = |direction, remote, service| line(Family::Four, direction, remote, service);
    assert_eq!(four(Direction::Ingress, Remote::Any, Service::Any), "accept");
    let range = Service::Ports(Protocol::Sctp, 7, 9);
    assert_eq!(four(Direction::Egress, Remote::Any, range), "meta l4proto sctp ct reply proto-src 7-9 accept");
    assert_eq!(four(Direction::Ingress, Remote::Any, Service::List("services-1".to_owned())), "jump services-1");
    let set = Service::Set(Protocol::Tcp, "ports-1".to_owned());
    assert_eq!(
        line(Family::Six, Direction::Egress, Remote::Set("peers-1".to_owned()), set),
        "ct reply ip6 saddr @peers-1 meta l4proto tcp ct reply ip6 saddr . ct reply proto-src @ports-1 accept"
    );
    let block = |cidr: &str, except: &[&str]| Remote::Block {
        cidr: cidr.parse().unwrap(),
        except: except.iter().map(|cidr| cidr.parse().unwrap()).collect(),
    };
    assert_eq!(four(Direction::Ingress, block("fd00::/8", &[]), Service::Any), "");
    assert_eq!(
        four(Direction::Egress, block("0.0.0.0/0", &["10.0.0.0/8", "192.168.0.0/16"]), Service::Any),
        "ct reply ip saddr 0.0.0.0/0 ct reply ip saddr != 10.0.0.0/8 ct reply ip saddr != 192.168.0.0/16 accept"
    );
}
