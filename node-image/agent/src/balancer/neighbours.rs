//! Tells the neighbours that an address is on this node now: the host and other containers remember its previous place for
//! up to a minute. The kernel does not announce an address that is added.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet_datalink::{Channel, Config, NetworkInterface, channel};

const BROADCAST: [u8; 6] = [0xff; 6];
/// The address at which all nodes of a link listen, and the corresponding Ethernet address.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_ETHERNET: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// Announces the addresses on the link with this index.
pub(crate) fn announce(link: u32, addresses: &[IpAddr]) -> io::Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let link = find(link).ok_or_else(|| io::Error::other("the link was removed"))?;
    let own = link.mac.ok_or_else(|| io::Error::other("the link has no Ethernet address"))?.octets();
    let Channel::Ethernet(mut sender, _) = channel(&link, Config::default())? else {
        return Err(io::Error::other("the link is not Ethernet"));
    };
    for address in addresses {
        let frame = match address {
            IpAddr::V4(address) => arp(own, *address),
            IpAddr::V6(address) => advertisement(own, *address),
        };
        sender.send_to(&frame, None).unwrap_or_else(|| Err(io::Error::other("there is no room for the frame")))?;
    }
    Ok(())
}

fn find(index: u32) -> Option<NetworkInterface> {
    pnet_datalink::interfaces().into_iter().find(|link| link.index == index)
}

/// A gratuitous ARP request (RFC 5944, 4.6): sender and target are the address.
fn arp(own: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let octets = address.octets();
    // Ethernet and IPv4, with addresses of 6 and 4 bytes; operation 1 is a request.
    let header = [0, 1, 8, 0, 6, 4, 0, 1];
    [&BROADCAST[..], &own, &[0x08, 0x06], &header, &own, &octets, &[0; 6], &octets].concat()
}

/// An unsolicited neighbour advertisement (RFC 4861, 4.4) that overrides what is known.
fn advertisement(own: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    // Type 136, code 0, no checksum yet; the flag is Override; option 2 is the target's link-layer address.
    let body = |checksum: u16| {
        let checksum = checksum.to_be_bytes();
        [&[136, 0, checksum[0], checksum[1], 0x20, 0, 0, 0][..], &address.octets(), &[2, 1], &own].concat()
    };
    let length = u8::try_from(body(0).len()).unwrap_or(u8::MAX);
    let pseudo = [&address.octets()[..], &ALL_NODES.octets(), &[0, 0, 0, length, 0, 0, 0, 58], &body(0)].concat();
    // Version 6, next header 58 (ICMPv6), hop limit 255: receivers reject any other.
    let header = [0x60, 0, 0, 0, 0, length, 58, 255];
    let ethernet = [&ALL_NODES_ETHERNET[..], &own, &[0x86, 0xdd]].concat();
    [&ethernet[..], &header, &address.octets(), &ALL_NODES.octets(), &body(checksum(&pseudo))].concat()
}

/// The internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0x42, 0xac, 0x12, 0, 3];

    #[test]
    fn the_arp_request_names_the_address_twice_and_our_ethernet_address() {
        let frame = arp(OWN, Ipv4Addr::new(172, 18, 1, 1));
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0x42, 0xac, 0x12, 0, 3, 8, 6]);
        assert_eq!(frame[22..], [2, 0x42, 0xac, 0x12, 0, 3, 172, 18, 1, 1, 0, 0, 0, 0, 0, 0, 172, 18, 1, 1]);
    }

    #[test]
    fn the_neighbour_advertisement_has_a_checksum_that_holds() {
        let address: Ipv6Addr = "fd00:1::1".parse().unwrap();
        let frame = advertisement(OWN, address);
        assert_eq!(frame.len(), 14 + 40 + 32);
        let pseudo = [&address.octets()[..], &ALL_NODES.octets(), &[0, 0, 0, 32, 0, 0, 0, 58], &frame[54..]].concat();
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!((frame[54], frame[58], frame[86 - 6..].to_vec()), (136, 0x20, OWN.to_vec()));
    }
}
