//! Asks the kernel for routes by its netlink protocol; `/proc/net/route` has the main table only.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};

use super::route::Route;

const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const LINK_HEADER: usize = 16;
const LINK_MTU: u16 = 4;
const REQUEST: u16 = 1;
const REQUEST_ALL: u16 = 0x301;
const DONE: u16 = 3;
const ERROR: u16 = 2;
/// Asks for the route as it stands in its table, and for the table.
const AS_IT_STANDS: u32 = 0x3000;
const MESSAGE_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;
const DESTINATION: u16 = 1;
const DEVICE: u16 = 4;
const TABLE: u16 = 15;
/// The kernel's numbers of the address families.
const FAMILIES: [(u8, bool); 2] = [(2, true), (10, false)];

/// All routes, or the one to an address. An answer that cannot be had or read is none.
pub(super) fn ask(address: Option<IpAddr>) -> Vec<Route> {
    let families = FAMILIES.iter().filter(|(_, v4)| address.is_none_or(|address| address.is_ipv4() == *v4));
    families.flat_map(|(family, _)| of_family(*family, address).unwrap_or_default()).collect()
}

fn of_family(family: u8, address: Option<IpAddr>) -> rustix::io::Result<Vec<Route>> {
    let socket = open()?;
    let mut routes = Vec::new();
    exchange(&socket, &request(family, address), address.is_some(), |kind, body| {
        routes.extend((kind == NEW_ROUTE).then(|| route(&socket, body)).flatten());
    })?;
    Ok(routes)
}

/// The largest packet of an interface, if there is one of this name.
pub(super) fn mtu(device: &str) -> Option<u32> {
    let socket = open().ok()?;
    let index = rustix::net::netdevice::name_to_index(&socket, device).ok()?;
    let mut body = vec![0; LINK_HEADER];
    body.get_mut(4..8)?.copy_from_slice(&index.to_ne_bytes());
    let mut found = None;
    exchange(&socket, &message(GET_LINK, REQUEST, &body), true, |kind, body| {
        let attributes = body.get(LINK_HEADER..).filter(|_| kind == NEW_LINK).map(attributes).unwrap_or_default();
        found = attributes.iter().find(|(name, _)| *name == LINK_MTU).and_then(|(_, value)| number(Some(value)));
    })
    .ok()?;
    found
}

fn open() -> rustix::io::Result<OwnedFd> {
    // Without a protocol it is that of routes.
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let timeout = Some(std::time::Duration::from_secs(2));
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, timeout)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// Sends a request and passes on each message of the answer, its kind and its body.
fn exchange(
    socket: &OwnedFd,
    request: &[u8],
    single: bool,
    mut each: impl FnMut(u16, &[u8]),
) -> rustix::io::Result<()> {
    rustix::net::send(socket, request, SendFlags::empty())?;
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let (length, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?;
        let more = messages(buffer.get(..length).unwrap_or_default(), &mut each);
        if single || !more || length == 0 {
            return Ok(());
        }
    }
}

/// A request for the route to an address, or for all.
pub(super) fn request(family: u8, address: Option<IpAddr>) -> Vec<u8> {
    let octets = match address {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        None => Vec::new(),
    };
    let prefix = u8::try_from(octets.len() * 8).unwrap_or_default();
    let mut body = vec![family, prefix, 0, 0, 0, 0, 0, 0];
    body.extend(if octets.is_empty() { 0 } else { AS_IT_STANDS }.to_ne_bytes());
    if !octets.is_empty() {
        body.extend(u16::try_from(octets.len() + 4).unwrap_or_default().to_ne_bytes());
        body.extend(DESTINATION.to_ne_bytes());
        body.extend(octets);
    }
    message(GET_ROUTE, if address.is_some() { REQUEST } else { REQUEST_ALL }, &body)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(MESSAGE_HEADER + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Passes on each message of a packet, its kind and its body; returns whether more packets follow.
pub(super) fn messages(mut packet: &[u8], mut each: impl FnMut(u16, &[u8])) -> bool {
    while packet.len() >= MESSAGE_HEADER {
        let length = number(packet.get(..4)).unwrap_or_default() as usize;
        let kind = short(packet.get(4..6)).unwrap_or(ERROR);
        let Some(body) = packet.get(MESSAGE_HEADER..length) else { return false };
        if kind == DONE || kind == ERROR {
            return false;
        }
        each(kind, body);
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

fn route(socket: &OwnedFd, body: &[u8]) -> Option<Route> {
    let (mut route, device) = parsed(body)?;
    route.device = device.and_then(|index| rustix::net::netdevice::index_to_name(socket, index).ok());
    Some(route)
}

/// A route without the name of its interface, and the number of that.
pub(super) fn parsed(body: &[u8]) -> Option<(Route, Option<u32>)> {
    let v4 = FAMILIES.iter().find(|(family, _)| Some(family) == body.first())?.1;
    let kind = match body.get(7)? {
        1 => None,
        2 => Some("local"),
        6 => Some("blackhole"),
        7 => Some("unreachable"),
        8 => Some("prohibit"),
        // Broadcasts, multicasts, and "see the next table".
        _ => return None,
    };
    let mut address: IpAddr = if v4 { [0; 4].into() } else { [0; 16].into() };
    let (mut table, mut device) = (u32::from(*body.get(4)?), None);
    for (name, value) in attributes(body.get(ROUTE_HEADER..)?) {
        match name {
            DESTINATION if v4 => address = <[u8; 4]>::try_from(value).ok()?.into(),
            DESTINATION => address = <[u8; 16]>::try_from(value).ok()?.into(),
            DEVICE => device = number(Some(value)),
            TABLE => table = number(Some(value))?,
            _ => {}
        }
    }
    let net = IpNet::new(address, *body.get(1)?).ok()?.trunc();
    Some((Route { net, kind, device: None, table }, device))
}

/// The attributes of a message, until one that is damaged.
fn attributes(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while let (Some(length), Some(name)) = (short(rest.get(..2)), short(rest.get(2..4))) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else { break };
        all.push((name, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn short(bytes: Option<&[u8]>) -> Option<u16> {
    bytes?.try_into().ok().map(u16::from_ne_bytes)
}

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    bytes?.try_into().ok().map(u32::from_ne_bytes)
}
