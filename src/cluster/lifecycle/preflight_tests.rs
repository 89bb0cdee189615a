//! What is told before anything is made.

use super::*;

#[test]
fn a_host_whose_way_out_is_narrower_than_the_engines_networks_is_told() {
    let uplink = |mtu| Some(("wg0".to_owned(), mtu));
    let warning = small_uplink(1500, uplink(1420)).unwrap();
    assert!(warning.contains("`wg0`") && warning.contains("`\"mtu\": 1420`"), "{warning}");
    assert_eq!(small_uplink(1420, uplink(1420)), None);
    assert_eq!(small_uplink(9000, None), None);
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
    let warnings = routes(&networking, &found);
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
    assert!(routes(&networking, &[route("172.16.0.0/12", 254)])[0].contains("networking.nodeSubnet"));
}
