//! The addresses of services. Pure.
//!
//! The statuses are the only memory: a service keeps its address as long as the address is valid. So every agent computes
//! the same result, and two agents that write at the same time by mistake end with the same statuses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::service::{Service, Services};
use crate::object::NamespacedName;

/// A change of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Write these addresses into its status.
    Assign(NamespacedName, Vec<IpAddr>),
    /// It cannot get what it asks for, for this reason.
    Refuse(NamespacedName, String),
}

/// The changes that correct the statuses.
pub(crate) fn plan(services: &Services, subnets: &[IpNet]) -> Vec<Change> {
    let mut order: Vec<(&NamespacedName, &Service)> = services.iter().collect();
    // If two services have the same address, the older one keeps it.
    order.sort_by_key(|(_, service)| (&service.created, &service.uid));
    let mut taken: BTreeMap<IpAddr, &NamespacedName> = BTreeMap::new();
    let mut kept: BTreeMap<&NamespacedName, Vec<IpAddr>> = BTreeMap::new();
    for (name, service) in &order {
        let kept = kept.entry(name).or_default();
        for is_ipv4 in &service.families {
            let usable = |address: &&IpAddr| {
                address.is_ipv4() == *is_ipv4 && is_assignable(**address, subnets) && !taken.contains_key(*address)
            };
            if let Some(address) = service.addresses.iter().find(usable) {
                taken.insert(*address, name);
                kept.push(*address);
            }
        }
    }
    let mut changes = Vec::new();
    for (name, service) in order {
        let kept = kept.remove(name).unwrap_or_default();
        let (addresses, refusal) = choose(service, &kept, &taken, subnets);
        for address in &addresses {
            taken.insert(*address, name);
        }
        if addresses != service.addresses || !service.is_tidy {
            changes.push(Change::Assign(name.clone(), addresses));
        }
        if let Some(cause) = refusal {
            changes.push(Change::Refuse(name.clone(), cause));
        }
    }
    changes
}

/// An address for each family: the requested one, or the present one, or the lowest free one.
fn choose(
    service: &Service,
    kept: &[IpAddr],
    taken: &BTreeMap<IpAddr, &NamespacedName>,
    subnets: &[IpNet],
) -> (Vec<IpAddr>, Option<String>) {
    let mut refusal = None;
    let requested = match service.requested.as_deref().map(|text| requested(text, service, kept, taken, subnets)) {
        Some(Ok(address)) => Some(address),
        Some(Err(cause)) => {
            refusal = Some(cause);
            None
        }
        None => None,
    };
    let mut addresses = Vec::new();
    for is_ipv4 in &service.families {
        let of_family = |address: &&IpAddr| address.is_ipv4() == *is_ipv4;
        let present = kept.iter().find(of_family).copied();
        if let Some(address) = requested.as_ref().filter(of_family).copied().or(present) {
            addresses.push(address);
        } else if service.requested.is_none() || requested.is_some() {
            match free(*is_ipv4, taken, subnets) {
                Ok(address) => addresses.push(address),
                Err(cause) => refusal = Some(cause),
            }
        }
    }
    (addresses, refusal)
}

/// The address in `spec.loadBalancerIP`, or the reason why the service cannot have it.
fn requested(
    text: &str,
    service: &Service,
    kept: &[IpAddr],
    taken: &BTreeMap<IpAddr, &NamespacedName>,
    subnets: &[IpNet],
) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("loadBalancerIP `{text}` is not an IP address"))?;
    if !service.families.contains(&address.is_ipv4()) {
        return Err(format!("loadBalancerIP {address} has none of the service's address families"));
    }
    if !is_assignable(address, subnets) {
        let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
        return Err(format!("loadBalancerIP {address} is not an address of {}", subnets.join(" or ")));
    }
    match taken.get(&address) {
        Some(other) if !kept.contains(&address) => Err(format!("loadBalancerIP {address} is in use by {other}")),
        _ => Ok(address),
    }
}

/// The lowest address that is free.
fn free(is_ipv4: bool, taken: &BTreeMap<IpAddr, &NamespacedName>, subnets: &[IpNet]) -> Result<IpAddr, String> {
    let family = if is_ipv4 { "IPv4" } else { "IPv6" };
    let of_family: Vec<&IpNet> = subnets.iter().filter(|subnet| subnet.addr().is_ipv4() == is_ipv4).collect();
    if of_family.is_empty() {
        return Err(format!("the cluster has no {family} addresses for services"));
    }
    let free = of_family.iter().find_map(|subnet| addresses(subnet).find(|address| !taken.contains_key(address)));
    free.ok_or_else(|| {
        let names: Vec<String> = of_family.iter().map(ToString::to_string).collect();
        format!("all addresses of {} are in use", names.join(" and "))
    })
}

/// Addresses that services may have: without the first one, which is the anycast address of an IPv6 subnet and looks like
/// a mistake in IPv4, and without the last one of IPv4.
fn addresses(subnet: &IpNet) -> impl Iterator<Item = IpAddr> + use<> {
    let first = subnet.network();
    subnet.hosts().filter(move |address| *address != first)
}

/// Whether the agent assigns this address.
pub(crate) fn is_assignable(address: IpAddr, subnets: &[IpNet]) -> bool {
    subnets.iter().any(|subnet| {
        let last = subnet.addr().is_ipv4() && address == subnet.broadcast();
        subnet.contains(&address) && address != subnet.network() && !last
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBNET: &str = "172.30.1.0/29";

    fn name(name: &str) -> NamespacedName {
        NamespacedName { namespace: "default".to_owned(), name: name.to_owned() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn service(created: u32, addresses: &[&str]) -> Service {
        Service {
            uid: created.to_string(),
            created: format!("2026-01-01T00:00:{created:02}Z"),
            families: vec![true],
            addresses: addresses.iter().map(|text| address(text)).collect(),
            is_tidy: true,
            ..Service::default()
        }
    }

    fn plan(services: &[(&str, Service)]) -> Vec<Change> {
        let services = services.iter().map(|(key, service)| (name(key), service.clone())).collect();
        super::plan(&services, &[SUBNET.parse().unwrap()])
    }

    fn assign(key: &str, addresses: &[&str]) -> Change {
        Change::Assign(name(key), addresses.iter().map(|text| address(text)).collect())
    }

    fn requesting(mut service: Service, address: &str) -> Service {
        service.requested = Some(address.to_owned());
        service
    }

    #[test]
    fn the_oldest_service_gets_the_lowest_free_address_and_none_loses_its_address() {
        let services = [("new", service(9, &[])), ("old", service(1, &[])), ("has", service(5, &["172.30.1.1"]))];
        assert_eq!(plan(&services), [assign("old", &["172.30.1.2"]), assign("new", &["172.30.1.3"])]);
        assert_eq!(plan(&[("has", service(1, &["172.30.1.5"]))]), []);
    }

    #[test]
    fn of_two_services_with_one_address_the_older_one_keeps_it() {
        let services = [("a", service(2, &["172.30.1.1"])), ("b", service(1, &["172.30.1.1"]))];
        assert_eq!(plan(&services), [assign("a", &["172.30.1.2"])]);
    }

    #[test]
    fn an_address_that_is_not_ours_is_replaced_and_a_foreign_status_rewritten() {
        let mut foreign = service(2, &["172.30.1.4"]);
        foreign.is_tidy = false;
        let services = [("a", service(1, &["10.0.0.1"])), ("b", foreign), ("c", service(3, &["172.30.1.7"]))];
        assert_eq!(
            plan(&services),
            [assign("a", &["172.30.1.1"]), assign("b", &["172.30.1.4"]), assign("c", &["172.30.1.2"])]
        );
    }

    #[test]
    fn a_requested_address_is_given_when_it_is_free() {
        let services = [("a", requesting(service(2, &[]), "172.30.1.4")), ("b", service(1, &[]))];
        assert_eq!(plan(&services), [assign("b", &["172.30.1.1"]), assign("a", &["172.30.1.4"])]);
        // Also if the service has another one.
        let moved = requesting(service(1, &["172.30.1.1"]), "172.30.1.4");
        assert_eq!(plan(&[("a", moved)]), [assign("a", &["172.30.1.4"])]);
    }

    #[test]
    fn a_request_that_cannot_be_met_is_reported_and_no_other_address_assigned() {
        let refused =
            |text: &str| match plan(&[("a", requesting(service(2, &[]), text)), ("b", service(1, &["172.30.1.2"]))])
                .as_slice()
            {
                [Change::Refuse(_, cause)] => cause.clone(),
                other => panic!("{other:?}"),
            };
        assert_eq!(refused("172.30.1.2"), "loadBalancerIP 172.30.1.2 is in use by default/b");
        assert_eq!(refused("172.30.9.2"), "loadBalancerIP 172.30.9.2 is not an address of 172.30.1.0/29");
        assert_eq!(refused("fd00::1"), "loadBalancerIP fd00::1 has none of the service's address families");
        assert_eq!(refused("x"), "loadBalancerIP `x` is not an IP address");
        // Meanwhile it keeps the one that it has.
        let waits = requesting(service(2, &["172.30.1.3"]), "172.30.1.2");
        let changes = plan(&[("a", waits), ("b", service(1, &["172.30.1.2"]))]);
        assert!(matches!(changes.as_slice(), [Change::Refuse(..)]), "{changes:?}");
    }

    #[test]
    fn an_exhausted_range_is_reported() {
        let names: Vec<String> = (0..7).map(|n| format!("s{n}")).collect();
        let services: Vec<(&str, Service)> =
            names.iter().zip(0..).map(|(n, at)| (n.as_str(), service(at, &[]))).collect();
        let changes = plan(&services);
        assert_eq!(changes[5], assign("s5", &["172.30.1.6"]));
        assert_eq!(changes[6..], [Change::Refuse(name("s6"), "all addresses of 172.30.1.0/29 are in use".to_owned())]);
    }

    #[test]
    fn a_dual_stack_service_gets_an_address_of_each_family() {
        let mut both = service(1, &[]);
        both.families = vec![false, true];
        let services = Services::from([(name("a"), both)]);
        let subnets = [SUBNET.parse().unwrap(), "fd00:1::/64".parse().unwrap()];
        assert_eq!(super::plan(&services, &subnets), [assign("a", &["fd00:1::1", "172.30.1.1"])]);
        let refusal = "the cluster has no IPv6 addresses for services".to_owned();
        let four = super::plan(&services, &subnets[..1]);
        assert_eq!(four, [assign("a", &["172.30.1.1"]), Change::Refuse(name("a"), refusal)]);
    }
}
