//! The routes of this host, those of all tables: VPN clients keep theirs in tables of their own.

use std::net::IpAddr;

use ipnet::IpNet;

use self::route::USUAL_TABLES;
use crate::plan::subnet::overlaps;

#[cfg(target_os = "linux")]
mod kernel;
mod route;

pub use self::route::Route;

/// The first of the routes to a network that has addresses in this subnet; those to other machines come first.
pub fn across<'r>(routes: &'r [Route], subnet: &IpNet) -> Option<&'r Route> {
    let across = || routes.iter().filter(|route| route.leads_to_a_network() && overlaps(&route.net, subnet));
    across().find(|route| route.kind.is_none()).or_else(|| across().next())
}

/// All routes of this host, of both families; none where the kernel does not tell them.
pub fn all() -> Vec<Route> {
    ask(None)
}

/// The route by which this host reaches an address; the kernel follows its rules (`ip rule`) to find it.
pub fn to(address: IpAddr) -> Option<Route> {
    ask(Some(address)).into_iter().next()
}

/// The route to an address of a network of the engine, if it does not lead into the network. `None` also where the engine's
/// networks are not this host's, as with Docker Desktop.
pub fn astray(network: &str, address: IpAddr) -> Option<Route> {
    let bridge = format!("br-{}", network.get(..12)?);
    mtu(&bridge)?;
    // Beside the routes that every host has, that of the network itself wins, even where the answer does not show it yet.
    to(address).filter(|route| route.device.as_ref() != Some(&bridge) && !USUAL_TABLES.contains(&route.table))
}

/// The interface of the default route, and the largest packet that it takes.
pub fn uplink() -> Option<(String, u32)> {
    // Any address of the internet; nothing is sent.
    let device = to(IpAddr::from([1, 1, 1, 1]))?.device?;
    let packet = mtu(&device)?;
    Some((device, packet))
}

/// Asks the kernel. Elsewhere than on Linux the engine is in a virtual machine, which has routes of its own.
fn ask(address: Option<IpAddr>) -> Vec<Route> {
    #[cfg(target_os = "linux")]
    return kernel::ask(address);
    #[cfg(not(target_os = "linux"))]
    return {
        let _ = address;
        Vec::new()
    };
}

/// The largest packet of an interface, if there is one of this name.
fn mtu(device: &str) -> Option<u32> {
    #[cfg(target_os = "linux")]
    return kernel::mtu(device);
    #[cfg(not(target_os = "linux"))]
    return {
        let _ = device;
        None
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(net: &str, kind: Option<&'static str>, table: u32) -> Route {
        Route { net: net.parse().unwrap(), kind, device: kind.is_none().then(|| "tun0".to_owned()), table }
    }

    #[test]
    fn a_route_is_named_as_ip_shows_it() {
        assert_eq!(route("10.96.0.0/16", None, 254).to_string(), "10.96.0.0/16 dev tun0");
        assert_eq!(route("10.96.0.0/16", None, 51820).to_string(), "10.96.0.0/16 dev tun0 table 51820");
        assert_eq!(route("10.96.0.0/16", Some("blackhole"), 254).to_string(), "blackhole 10.96.0.0/16");
        assert_eq!(route("0.0.0.0/0", None, 7).to_string(), "default dev tun0 table 7");
    }

    #[test]
    fn a_split_default_route_leads_to_no_network() {
        let routes = ["0.0.0.0/1", "128.0.0.0/1", "2000::/3"].map(|net| route(net, None, 254));
        assert_eq!(across(&routes, &"172.18.0.0/22".parse().unwrap()), None);
        assert_eq!(across(&routes, &"2001:db8::/64".parse().unwrap()), None);
        let routes = [route("172.18.0.1/32", Some("local"), 255), route("172.16.0.0/12", None, 254)];
        assert_eq!(across(&routes, &"172.18.0.0/22".parse().unwrap()), Some(&routes[1]));
        assert!(!routes[1].excludes(&"172.18.0.0/22".parse().unwrap()));
        assert!(routes[0].excludes(&"172.18.0.0/22".parse().unwrap()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernels_answer_is_read() {
        // A route of table 51820, whose number does not fit into the header: 10.96.0.0/16 dev 3.
        let mut body = vec![2, 16, 0, 0, 252, 4, 0, 1, 0, 0, 0, 0];
        for (kind, value) in [(15_u16, 51820_u32.to_ne_bytes()), (1, [10, 96, 0, 0]), (4, 3_u32.to_ne_bytes())] {
            body.extend(8_u16.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
        }
        let (found, device) = kernel::parsed(&body).unwrap();
        assert_eq!((found.net.to_string().as_str(), found.table, device), ("10.96.0.0/16", 51820, Some(3)));
        body[7] = 3;
        assert_eq!(kernel::parsed(&body), None);
        assert_eq!(kernel::parsed(&body[..9]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_loopback_network_of_this_host_is_found_in_the_local_table() {
        assert!(all().iter().any(|route| route.net.to_string() == "127.0.0.0/8" && route.kind == Some("local")));
        assert_eq!(to(IpAddr::from([127, 0, 0, 1])).unwrap().device.as_deref(), Some("lo"));
        assert!(mtu("lo").is_some_and(|mtu| mtu >= 16_384));
        assert_eq!(mtu("coracle-absent"), None);
    }
}
