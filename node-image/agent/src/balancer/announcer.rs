//! Answers for addresses on this node: the addresses that it owns are set on its link, so the kernel answers for them, and
//! the rules of kube-proxy send the packets on to the pods.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ring::hmac::Key;
use tokio::net::UdpSocket;
use tokio::sync::watch::{Receiver, Sender};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::ownership::{Standing, candidates, owner, with_endpoints, writer};
use super::peers::{BEAT, Peers, SILENCE_TIMEOUT, decode, encode, key};
use super::service::{Services, Slices};
use super::{allocate, guard, neighbours};
use crate::config::Config;
use crate::kernel::{Kernel, host_prefix};
use crate::log::{self, Failures};
use crate::nft;
use crate::nodes::Nodes;

/// UDP port of the heartbeats, beside those of the kubelet and kube-proxy.
pub(crate) const PORT: u16 = 10290;
/// How often the link's addresses are checked: another program may have removed one.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How often a new address is announced, with a heartbeat between: a single frame may be lost.
const ANNOUNCEMENTS: u8 = 3;

/// The input of the announcer.
pub(crate) struct Sources {
    pub(crate) nodes: Receiver<Option<Nodes>>,
    pub(crate) services: Receiver<Option<Services>>,
    pub(crate) slices: Receiver<Option<Slices>>,
    pub(crate) serving: Receiver<bool>,
}

/// Answers for the addresses that this node owns.
pub(crate) struct Announcer<'a> {
    config: &'a Config,
    kernel: Kernel,
    sources: Sources,
    /// Whether it is this node's turn to write statuses.
    turn: &'a Sender<bool>,
    peers: Peers,
    key: Key,
    socket: Option<(UdpSocket, IpAddr)>,
    /// The agent's addresses on the link, each with the number of announcements left.
    present: BTreeMap<IpAddr, u8>,
    link: Option<u32>,
    /// The rules that keep pods away from the port, as they were last set.
    guarded: String,
    last_beat: Instant,
    failures: Failures,
    socket_failures: Failures,
}

impl<'a> Announcer<'a> {
    /// Does not touch anything yet.
    pub(crate) fn new(config: &'a Config, kernel: Kernel, sources: Sources, turn: &'a Sender<bool>) -> Self {
        let now = Instant::now();
        let secret = std::fs::read(&config.key_file).unwrap_or_default();
        if secret.is_empty() {
            let file = config.key_file.display();
            log::line(format_args!("load balancer: there is no key in `{file}`: any pod can send heartbeats"));
        }
        Self {
            config,
            kernel,
            sources,
            turn,
            peers: Peers::new(now),
            key: key(&secret),
            socket: None,
            present: BTreeMap::new(),
            link: None,
            guarded: String::new(),
            last_beat: now,
            failures: Failures::default(),
            socket_failures: Failures::default(),
        }
    }

    /// Answers forever. When the agent ends, its addresses stay: it will be back before another node takes over.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(CHECK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut datagram = [0; 512];
        loop {
            let now = Instant::now();
            let loss = self.peers.next_loss(now).unwrap_or(now + SILENCE_TIMEOUT);
            // Heartbeats first: after a pause of this node, the waiting ones show which nodes are alive.
            tokio::select! {
                biased;
                received = receive(self.socket.as_ref(), &mut datagram) => {
                    if !self.hear(&datagram[..received.0], received.1) {
                        continue;
                    }
                }
                _ = self.sources.nodes.changed() => self.nodes_changed(),
                _ = self.sources.services.changed() => {}
                _ = self.sources.slices.changed() => {}
                _ = self.sources.serving.changed() => self.beat().await,
                _ = beat.tick() => {
                    self.stalled();
                    self.beat().await;
                    if self.present.values().all(|left| *left == 0) {
                        continue;
                    }
                }
                _ = look.tick() => self.look().await,
                () = sleep_until(loss) => {}
            }
            self.settle().await;
        }
    }

    fn standing(&self, name: &str) -> Standing {
        if name != self.config.node_name {
            return self.peers.standing(name, Instant::now());
        }
        if *self.sources.serving.borrow() { Standing::Serving } else { Standing::Starting }
    }

    /// Records a heartbeat if it is valid: it has the cluster's signature, and comes from the address of the node that it
    /// names. Returns whether anything changed.
    fn hear(&mut self, datagram: &[u8], from: SocketAddr) -> bool {
        let Some((name, is_serving)) = decode(&self.key, datagram) else { return false };
        let is_from = |nodes: &Nodes| nodes.get(name).is_some_and(|node| node.addresses.contains(&from.ip()));
        let is_real = self.sources.nodes.borrow().as_ref().is_some_and(is_from);
        if !is_real || from.port() != PORT || name == self.config.node_name {
            return false;
        }
        let before = self.peers.hear(name, is_serving, Instant::now());
        if before == Standing::Lost {
            log::line(format_args!("load balancer: node {name} is back"));
            // Each node may have considered the other one lost: the present owner of an address announces it.
            self.announce_again();
        }
        before != self.standing(name)
    }

    fn nodes_changed(&mut self) {
        if let Some(nodes) = self.sources.nodes.borrow().as_ref() {
            self.peers.retain(|name| nodes.contains_key(name));
        }
    }

    /// After a pause, other nodes answer for this node's addresses, and neighbours have learned that.
    fn stalled(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.last_beat) >= SILENCE_TIMEOUT {
            self.announce_again();
        }
        self.last_beat = now;
    }

    fn announce_again(&mut self) {
        self.present.values_mut().for_each(|left| *left = ANNOUNCEMENTS);
    }

    /// Tells the other nodes that this one is alive.
    async fn beat(&mut self) {
        let Some((own, peers)) = self.addresses() else { return };
        if self.socket.as_ref().is_none_or(|(_, address)| *address != own) {
            match UdpSocket::bind((own, PORT)).await {
                Ok(socket) => self.socket = Some((socket, own)),
                Err(error) => {
                    self.socket_failures.report(format!("load balancer: no heartbeats at {own}:{PORT}: {error}"));
                    return;
                }
            }
        }
        let Some((socket, _)) = &self.socket else { return };
        let datagram = encode(&self.key, &self.config.node_name, *self.sources.serving.borrow());
        for peer in peers {
            // A node that is away is not a failure: its silence is noticed.
            let _ = socket.try_send_to(&datagram, (peer, PORT).into());
        }
    }

    /// This node's address, and the addresses of the other nodes in the same family.
    fn addresses(&self) -> Option<(IpAddr, Vec<IpAddr>)> {
        let nodes = self.sources.nodes.borrow();
        let nodes = nodes.as_ref()?;
        let own = *nodes.get(&self.config.node_name)?.addresses.first()?;
        let others = nodes.iter().filter(|(name, _)| **name != self.config.node_name);
        let of_family = |address: &&IpAddr| address.is_ipv4() == own.is_ipv4();
        Some((own, others.filter_map(|(_, node)| node.addresses.iter().find(of_family).copied()).collect()))
    }

    /// Reads the link and the agent's addresses on it.
    async fn look(&mut self) {
        let Some((own, _)) = self.addresses() else { return };
        let all = match self.kernel.addresses().await {
            Ok(all) => all,
            Err(error) => return self.failures.report(format!("load balancer: {error}")),
        };
        self.link = all.iter().find(|(_, address, _)| *address == own).map(|(link, ..)| *link);
        let Some(link) = self.link else { return };
        let ours = |(index, address, prefix): &&(u32, IpAddr, u8)| {
            let subnets = &self.config.load_balancer_subnets;
            *index == link && *prefix == host_prefix(*address) && allocate::is_assignable(*address, subnets)
        };
        let found: Vec<IpAddr> = all.iter().filter(ours).map(|(_, address, _)| *address).collect();
        self.present.retain(|address, _| found.contains(address));
        for address in found {
            self.present.entry(address).or_insert(0);
        }
        self.guard(link).await;
    }

    /// Sets the rules that keep pods away from the port, if they changed.
    async fn guard(&mut self, link: u32) {
        let nodes = self.sources.nodes.borrow().clone().unwrap_or_default();
        let rules = guard::ruleset(link, nodes.values().flat_map(|node| &node.addresses));
        if rules == self.guarded {
            return;
        }
        match nft::run(&rules).await {
            Ok(()) => self.guarded = rules,
            Err(error) => self.socket_failures.report(format!("load balancer: cannot guard port {PORT}: {error}")),
        }
    }

    /// Corrects the addresses on the link.
    async fn settle(&mut self) {
        let Some((wanted, is_writer)) = self.wanted() else { return };
        self.turn.send_if_modified(|turn| std::mem::replace(turn, is_writer) != is_writer);
        if self.link.is_none() {
            self.look().await;
        }
        let Some(link) = self.link else { return };
        let mut failed = None;
        let unwanted: Vec<IpAddr> = self.present.keys().filter(|address| !wanted.contains(address)).copied().collect();
        for address in unwanted {
            match self.kernel.remove_address(link, address).await {
                Ok(()) => log::line(format_args!("load balancer: {address} is no longer on this node")),
                Err(error) => failed = Some(format!("cannot remove {address}: {error}")),
            }
            self.present.remove(&address);
        }
        for address in wanted {
            if self.present.contains_key(&address) {
                continue;
            }
            match self.kernel.add_address(link, address).await {
                Ok(()) => {
                    log::line(format_args!("load balancer: {address} is on this node"));
                    self.present.insert(address, ANNOUNCEMENTS);
                }
                Err(error) => failed = Some(format!("cannot add {address}: {error}")),
            }
        }
        let due: Vec<IpAddr> =
            self.present.iter().filter(|(_, left)| **left > 0).map(|(address, _)| *address).collect();
        if let Err(error) = neighbours::announce(link, &due) {
            failed = Some(format!("cannot tell the neighbours: {error}"));
        }
        self.present.values_mut().for_each(|left| *left = left.saturating_sub(1));
        match failed {
            Some(failure) => self.failures.report(format!("load balancer: {failure}")),
            None => self.failures.clear(),
        }
    }

    /// The addresses that this node owns, and whether it writes statuses; `None` while too little is known.
    fn wanted(&self) -> Option<(BTreeSet<IpAddr>, bool)> {
        let (nodes, services) = (self.sources.nodes.borrow(), self.sources.services.borrow());
        let slices = self.sources.slices.borrow();
        let (nodes, services) = (nodes.as_ref()?, services.as_ref()?);
        let own = self.config.node_name.as_str();
        let standing = |name: &str| self.standing(name);
        let anywhere = candidates(nodes, standing, None);
        let mut wanted = BTreeSet::new();
        for (name, service) in services {
            let local = slices.as_ref().filter(|_| service.local).map(|slices| with_endpoints(slices, name));
            let local = local.map(|local| candidates(nodes, standing, Some(&local)));
            let candidates = local.as_ref().unwrap_or(&anywhere);
            wanted.extend(service.addresses.iter().copied().filter(|address| {
                let is_ours = if service.local && slices.is_none() {
                    // The nodes of its pods are not known yet: nothing changes.
                    self.present.contains_key(address)
                } else {
                    owner(*address, candidates) == Some(own)
                };
                is_ours && allocate::is_assignable(*address, &self.config.load_balancer_subnets)
            }));
        }
        Some((wanted, writer(nodes, standing) == Some(own)))
    }
}

/// The next datagram; waits forever without a socket.
async fn receive(socket: Option<&(UdpSocket, IpAddr)>, datagram: &mut [u8]) -> (usize, SocketAddr) {
    let Some((socket, _)) = socket else { return std::future::pending().await };
    loop {
        // An error is the answer of a node that has no agent yet.
        if let Ok(received) = socket.recv_from(datagram).await {
            return received;
        }
    }
}
