//! The kernel's routing table and links, through netlink.

use std::future::Future;
use std::net::IpAddr;

use futures_util::{Stream, StreamExt, TryStreamExt, future::ready};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};

use crate::routes::{Change, Route};

/// Marks the agent's own routes (`ip route show proto 118`); no entry of iproute2's `rt_protos` has this number.
pub(crate) const ROUTE_PROTOCOL: u8 = 118;

/// The routing table of the network namespace that the agent runs in.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    handle: Handle,
}

impl Kernel {
    /// Opens netlink: the table, the future that must be polled for anything to happen, and one item for each
    /// route of the agent that another program removes.
    pub(crate) fn open() -> std::io::Result<(Self, impl Future<Output = ()>, impl Stream<Item = ()>)> {
        let groups = [MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
        let removals = messages.filter_map(|(message, _)| {
            let own = matches!(
                message.payload,
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(route)) if is_own(&route)
            );
            ready(own.then_some(()))
        });
        Ok((Self { handle }, connection, removals))
    }

    /// The agent's own routes.
    pub(crate) async fn own_routes(&self) -> Result<Vec<Route>, String> {
        Ok(self.routes().await?.iter().filter(|route| is_own(route)).filter_map(parse).collect())
    }

    pub(crate) async fn apply(&self, change: &Change) -> Result<(), String> {
        let result = match change {
            Change::Remove(route) => {
                let message = message(route.destination, route.gateway)?;
                self.handle.route().del(message).execute().await
            }
            Change::Set(destination, gateway) => {
                let message = message(*destination, Some(*gateway))?;
                self.handle.route().add(message).replace().execute().await
            }
        };
        result.map_err(|error| error.to_string())
    }

    /// The MTU of the link that has the default route, in bytes; `None` without a default route.
    pub(crate) async fn uplink_mtu(&self) -> Result<Option<u32>, String> {
        let routes = self.routes().await?;
        let default = routes.iter().find(|route| {
            route.header.destination_prefix_length == 0 && route.header.table == RouteHeader::RT_TABLE_MAIN
        });
        let link = default.and_then(|route| {
            route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })
        });
        let Some(link) = link else { return Ok(None) };
        let links = self.handle.link().get().match_index(link).execute();
        let links: Vec<_> = links.try_collect().await.map_err(|error| error.to_string())?;
        let mut attributes = links.iter().flat_map(|link| &link.attributes);
        Ok(attributes.find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        }))
    }

    /// The addresses of all links, each with the index of its link and its prefix length.
    pub(crate) async fn addresses(&self) -> Result<Vec<(u32, IpAddr, u8)>, String> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error: rtnetlink::Error| format!("cannot list the addresses: {error}"))?;
        let parse = |message: &AddressMessage| {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })?;
            Some((message.header.index, address, message.header.prefix_len))
        };
        Ok(messages.iter().filter_map(parse).collect())
    }

    /// Adds an address to a link, without a subnet.
    pub(crate) async fn add_address(&self, link: u32, address: IpAddr) -> Result<(), String> {
        let mut request = self.handle.address().add(link, address, host_prefix(address));
        if address.is_ipv6() {
            // Duplicate address detection takes a second, and meanwhile no node would answer.
            let attributes = &mut request.message_mut().attributes;
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            // Deprecated: it answers, but packets of the node and its pods keep the node's address as their source.
            let mut lifetimes = CacheInfo::default();
            lifetimes.ifa_preferred = 0;
            lifetimes.ifa_valid = u32::MAX;
            attributes.push(AddressAttribute::CacheInfo(lifetimes));
        }
        request.replace().execute().await.map_err(|error| error.to_string())
    }

    /// Removes it again.
    pub(crate) async fn remove_address(&self, link: u32, address: IpAddr) -> Result<(), String> {
        let message = self.handle.address().add(link, address, host_prefix(address)).message_mut().clone();
        self.handle.address().del(message).execute().await.map_err(|error| error.to_string())
    }

    async fn routes(&self) -> Result<Vec<RouteMessage>, String> {
        let mut routes = Vec::new();
        let families = [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ];
        for family in families {
            let found: Vec<_> = self
                .handle
                .route()
                .get(family)
                .execute()
                .try_collect()
                .await
                .map_err(|error: rtnetlink::Error| format!("cannot list the routes: {error}"))?;
            routes.extend(found);
        }
        Ok(routes)
    }
}

/// The prefix length of a subnet with one address.
pub(crate) fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_own(route: &RouteMessage) -> bool {
    route.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL) && route.header.table == RouteHeader::RT_TABLE_MAIN
}

fn message(destination: IpNet, gateway: Option<IpAddr>) -> Result<RouteMessage, String> {
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(destination.addr(), destination.prefix_len())
        .map_err(|error| error.to_string())?
        .protocol(RouteProtocol::Other(ROUTE_PROTOCOL));
    if let Some(gateway) = gateway {
        builder = builder.gateway(gateway).map_err(|error| error.to_string())?;
    }
    Ok(builder.build())
}

fn parse(route: &RouteMessage) -> Option<Route> {
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    };
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(destination) => address(destination),
        _ => None,
    })?;
    let gateway = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(gateway) => address(gateway),
        _ => None,
    });
    Some(Route { destination: IpNet::new(destination, route.header.destination_prefix_length).ok()?, gateway })
}
