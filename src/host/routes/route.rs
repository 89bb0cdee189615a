//! A route of this host.

use std::fmt;

use ipnet::IpNet;

/// The kernel's numbers of the tables that every host has: local, main, default.
pub(super) const USUAL_TABLES: std::ops::RangeInclusive<u32> = 253..=255;

/// A route of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to.
    pub net: IpNet,
    /// What it does, if it does not lead to a network: `blackhole`, `unreachable`, `prohibit` or `local`.
    pub(super) kind: Option<&'static str>,
    /// The interface behind which the network is.
    pub(super) device: Option<String>,
    /// The number of its table.
    pub(super) table: u32,
}

impl fmt::Display for Route {
    /// As `ip route` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.kind {
            write!(f, "{kind} ")?;
        }
        if self.net.prefix_len() == 0 {
            f.write_str("default")?;
        } else {
            write!(f, "{}", self.net)?;
        }
        if let Some(device) = &self.device {
            write!(f, " dev {device}")?;
        }
        if !USUAL_TABLES.contains(&self.table) {
            write!(f, " table {}", self.table)?;
        }
        Ok(())
    }
}

impl Route {
    /// A route to a network behind an interface.
    #[cfg(test)]
    pub(crate) fn new(net: IpNet, device: &str, table: u32) -> Self {
        Self { net, kind: None, device: Some(device.to_owned()), table }
    }

    /// Whether it leads to a network, and not merely to everything that has no other route.
    ///
    /// VPN clients split the default route into halves, quarters or less, which would leave no subnet free.
    pub fn leads_to_a_network(&self) -> bool {
        self.net.prefix_len() >= if self.net.addr().is_ipv4() { 8 } else { 7 }
    }

    /// Whether a network with this subnet cannot be reached beside it. In one table the narrower route wins, so that a wider
    /// one leaves the network alone.
    pub fn excludes(&self, subnet: &IpNet) -> bool {
        subnet.contains(&self.net)
    }
}
