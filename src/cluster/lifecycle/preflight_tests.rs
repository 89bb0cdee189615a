//! What is told before anything is made.

use super::*;
use crate::engine::fake::info;

#[test]
fn an_engine_that_cannot_run_nodes_is_refused() {
    let problems = |change: fn(&mut EngineInfo), place: Place| {
        let mut info = info();
        change(&mut info);
        let failed = engine(&info, &place).into_iter().filter(|check| check.result.is_err());
        failed.map(|check| check.id).collect::<Vec<_>>()
    };
    assert!(problems(|_| {}, Place::Host).is_empty());
    assert_eq!(problems(|info| info.os_type = OsType::Windows, Place::Host), [Id::WindowsContainers]);
    assert_eq!(problems(|info| info.rootless = true, Place::Host), [Id::RootlessEngine]);
    assert_eq!(problems(|info| info.architecture = "riscv64".to_owned(), Place::Host), [Id::Architecture]);
    assert_eq!(problems(|_| {}, Place::Apart), [Id::EngineApart]);
}

#[test]
fn a_host_whose_way_out_is_narrower_than_the_engines_networks_is_told() {
    let uplink = |mtu| Some(("wg0".to_owned(), mtu));
    let warning = check::sentence(&small_uplink(1500, uplink(1420)).unwrap());
    assert!(warning.contains("`wg0`") && warning.contains("`\"mtu\": 1420`"), "{warning}");
    assert!(Check::unless(Id::SmallUplink, small_uplink(1500, uplink(1420))).result.is_err());
    assert!(small_uplink(1420, uplink(1420)).is_none() && small_uplink(9000, None).is_none());
}

#[test]
fn ipv6_is_refused_where_its_packets_do_not_fit() {
    let mut networking = Networking::default();
    assert!(ipv6_fits(&networking, Some(1000)).is_ok());
    networking.ip_family = crate::config::IpFamily::Dual;
    assert!(ipv6_fits(&networking, Some(1280)).is_ok() && ipv6_fits(&networking, None).is_ok());
    assert!(ipv6_fits(&networking, Some(1000)).unwrap_err().cause().unwrap().contains("1000"));
}

#[test]
fn a_route_in_the_wanted_subnet_is_refused_and_one_across_the_others_told() {
    let route = |net: &str, table| Route::new(net.parse().unwrap(), "tun0", table);
    let mut networking = Networking::default();
    let found = [route("10.96.0.0/12", 254), route("10.244.7.0/24", 51820), route("0.0.0.0/1", 254)];
    let warnings: Vec<String> = routes(&networking, &found).iter().map(check::sentence).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("`10.244.7.0/24 dev tun0 table 51820`") && warnings[0].contains("networking.podSubnet")
    );
    assert!(warnings[1].contains("`10.96.0.0/12 dev tun0`") && warnings[1].contains("networking.serviceSubnet"));
    let wanted: IpNet = "172.30.0.0/22".parse().unwrap();
    let error = routed(wanted, &[route("172.30.1.0/24", 7)]).unwrap_err();
    assert_eq!(error.code(), Code::SubnetClash);
    assert!(error.cause().unwrap().contains("`172.30.1.0/24 dev tun0 table 7`"));
    // The narrower network wins against a wider route, but hides what is behind it.
    assert!(routed(wanted, &[route("172.16.0.0/12", 254)]).is_ok());
    networking.node_subnet = vec![wanted].into();
    let warnings = routes(&networking, &[route("172.16.0.0/12", 254)]);
    assert!(check::sentence(&warnings[0]).contains("networking.nodeSubnet"));
}
