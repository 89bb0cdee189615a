//! Where a connection goes: to the node that answered last, or to the first other one that answers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use coracle_shared::forward::{ForwardService, Forwarding};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use super::{name, way};

/// How long one node may take before another one is tried beside it: in a network of one host, an answer takes less than 1 ms.
const HEAD_START: Duration = Duration::from_millis(150);
/// How often each of them is tried, unless it refuses.
const ROUNDS: usize = 8;
/// How long all of them may take. A node that is just starting needs a moment.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long an answer of the cluster's DNS, or that a node lives, is believed.
const FRESH: Duration = Duration::from_secs(1);
/// The port of every node's kubelet: whether something is there or refuses, the node lives.
const KUBELET: u16 = 10250;

/// A place to send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The node's name.
    pub(super) node: String,
    pub(super) address: SocketAddr,
    /// The mark by which it is reached, if that is by way of the node.
    mark: Option<u32>,
    /// The address of the node itself.
    host: IpAddr,
}

/// What is known of the targets.
struct Known {
    forwarding: Rc<Forwarding>,
    /// When the file that it is from was written.
    written: Option<SystemTime>,
    /// The name of the node that answered last.
    last: Option<String>,
    /// The node's address that answered when asked whether it lives.
    alive: Option<(IpAddr, Instant)>,
    /// The addresses of the Service.
    addresses: Option<(Vec<IpAddr>, Instant)>,
}

/// The targets of a forwarder.
pub(super) struct Targets {
    path: PathBuf,
    known: RefCell<Known>,
    question: Cell<u16>,
}

impl Targets {
    /// Those that a file describes.
    pub(super) fn new(path: PathBuf) -> Result<Self, String> {
        let (forwarding, written) = read(&path)?;
        let known = Known { forwarding: Rc::new(forwarding), written, last: None, alive: None, addresses: None };
        Ok(Self { path, known: RefCell::new(known), question: Cell::new(1) })
    }

    /// What the file says now.
    pub(super) fn forwarding(&self) -> Rc<Forwarding> {
        let mut known = self.known.borrow_mut();
        let written = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok();
        if written != known.written
            && let Ok((forwarding, written)) = read(&self.path)
        {
            (known.forwarding, known.written) = (Rc::new(forwarding), written);
        }
        known.forwarding.clone()
    }

    /// Remembers which node answered.
    pub(super) fn prefer(&self, candidate: &Candidate) {
        self.known.borrow_mut().last = Some(candidate.node.clone());
    }

    /// Every place that a connection to this port can go to, the best one first.
    async fn candidates(&self, port: u16) -> Result<Vec<Candidate>, String> {
        let forwarding = self.forwarding();
        let candidates = match &forwarding.service {
            None => of_nodes(&forwarding, port),
            Some(service) => of_service(&forwarding, &self.addresses(&forwarding, service).await?, port),
        };
        Ok(preferred(candidates, self.known.borrow().last.as_deref()))
    }

    /// A connection to the first place that takes one.
    pub(super) async fn connect(&self, port: u16) -> Result<(TcpStream, Candidate), String> {
        let attempt = async |candidate: Candidate| match open(candidate.address, candidate.mark).await {
            Ok(stream) => Ok((stream, candidate)),
            Err(error) => Err(format!("{} by {}: {error}", candidate.address, candidate.node)),
        };
        let (stream, candidate) = first(self.candidates(port).await?, attempt).await?;
        self.prefer(&candidate);
        Ok((stream, candidate))
    }

    /// The places for datagrams: those of a node that lives come first.
    pub(super) async fn living(&self, port: u16) -> Result<Vec<Candidate>, String> {
        let candidates = self.candidates(port).await?;
        let fresh = self.known.borrow().alive.filter(|(_, at)| at.elapsed() < FRESH).map(|(host, _)| host);
        let known = fresh.filter(|host| candidates.iter().any(|candidate| candidate.host == *host));
        let host = if let Some(host) = known {
            host
        } else {
            let host = first(candidates.clone(), async |candidate: Candidate| lives(candidate.host).await).await?;
            self.known.borrow_mut().alive = Some((host, Instant::now()));
            host
        };
        let (mut living, others): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|candidate| candidate.host == host);
        living.extend(others);
        Ok(living)
    }

    /// Forgets that a node lives, so that it is asked again.
    pub(super) fn doubt(&self) {
        self.known.borrow_mut().alive = None;
    }

    /// The addresses of the Service: those that DNS says, or said last.
    async fn addresses(&self, forwarding: &Forwarding, service: &ForwardService) -> Result<Vec<IpAddr>, String> {
        let (said, asked) = match &self.known.borrow().addresses {
            Some((addresses, at)) => (addresses.clone(), at.elapsed() < FRESH),
            None => (service.addresses.clone(), false),
        };
        if asked {
            return Ok(said);
        }
        let addresses = match self.ask(forwarding, service).await {
            Some(addresses) if addresses.is_empty() => return Err(format!("{} does not exist", service.name)),
            Some(addresses) => addresses,
            None => said,
        };
        self.known.borrow_mut().addresses = Some((addresses.clone(), Instant::now()));
        Ok(addresses)
    }

    /// What the cluster's DNS says; `None` if it does not answer.
    async fn ask(&self, forwarding: &Forwarding, service: &ForwardService) -> Option<Vec<IpAddr>> {
        let dns = of_service(forwarding, &[service.dns], 53);
        let dns = preferred(dns, self.known.borrow().last.as_deref());
        let attempt = async |dns: Candidate| {
            let mut addresses = Vec::new();
            for v4 in [true, false] {
                let id = self.question.get();
                self.question.set(id.wrapping_add(1));
                addresses.extend(asked(&dns, id, &name::question(id, &service.name, v4)).await?);
                if !addresses.is_empty() {
                    break;
                }
            }
            Ok(addresses)
        };
        timeout(FRESH, first(dns, attempt)).await.ok()?.ok()
    }
}

fn read(path: &PathBuf) -> Result<(Forwarding, Option<SystemTime>), String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let written = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let text = std::fs::read(path).map_err(|error| failed(&error))?;
    let forwarding: Forwarding = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    if forwarding.service.is_some() {
        way::open(&forwarding.nodes)?;
    }
    Ok((forwarding, written))
}

/// The port at every address of every node, the primary family of all nodes first.
fn of_nodes(forwarding: &Forwarding, port: u16) -> Vec<Candidate> {
    let most = forwarding.nodes.iter().map(|node| node.addresses.len()).max().unwrap_or_default();
    let mut candidates = Vec::new();
    for index in 0..most {
        for node in &forwarding.nodes {
            candidates.extend(node.addresses.get(index).map(|host| Candidate {
                node: node.name.clone(),
                address: SocketAddr::new(*host, port),
                mark: None,
                host: *host,
            }));
        }
    }
    candidates
}

/// The port at every address of a Service, by way of every node.
fn of_service(forwarding: &Forwarding, addresses: &[IpAddr], port: u16) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for address in addresses {
        for (index, node) in forwarding.nodes.iter().enumerate() {
            let host = node.addresses.iter().find(|host| host.is_ipv4() == address.is_ipv4());
            candidates.extend(host.map(|host| Candidate {
                node: node.name.clone(),
                address: SocketAddr::new(*address, port),
                mark: Some(way::mark(index)),
                host: *host,
            }));
        }
    }
    candidates
}

/// The candidates of the node that answered last come first.
fn preferred(candidates: Vec<Candidate>, last: Option<&str>) -> Vec<Candidate> {
    let (mut first, others): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| Some(candidate.node.as_str()) == last);
    first.extend(others);
    first
}

/// The first success: each candidate has a head start over the next one. After the last one it is the first one's turn again:
/// a Service whose pod is gone, or that is just being made, answers to another attempt.
async fn first<T>(
    candidates: Vec<Candidate>,
    attempt: impl AsyncFn(Candidate) -> Result<T, String>,
) -> Result<T, String> {
    let (attempt, mut left) = (&attempt, candidates.len() * ROUNDS);
    let mut queue = VecDeque::from(candidates);
    let mut next = |queue: &mut VecDeque<Candidate>| {
        let candidate = queue.pop_front()?;
        left -= 1;
        if left > 0 {
            queue.push_back(candidate.clone());
        }
        Some(async move { (attempt(candidate.clone()).await, candidate) })
    };
    let (mut running, mut last) = (FuturesUnordered::new(), "no node has an address of this family".to_owned());
    let race = async {
        running.extend(next(&mut queue));
        loop {
            tokio::select! {
                ended = running.next() => match ended {
                    Some((Ok(found), _)) => return Ok(found),
                    Some((Err(error), candidate)) => {
                        last = error;
                        queue.retain(|other| *other != candidate);
                        running.extend(next(&mut queue));
                    }
                    None => return Err(last.clone()),
                },
                () = sleep(HEAD_START), if !queue.is_empty() => running.extend(next(&mut queue)),
            }
        }
    };
    timeout(DEADLINE, race).await.unwrap_or_else(|_| Err(format!("no answer within {} s", DEADLINE.as_secs())))
}

/// Opens a connection, by way of a node if there is a mark.
async fn open(address: SocketAddr, mark: Option<u32>) -> Result<TcpStream, String> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| error.to_string())?;
    mark.map_or(Ok(()), |mark| way::set(&socket, mark))?;
    socket.connect(address).await.map_err(|error| error.to_string())
}

/// A socket for datagrams to this place only.
pub(super) async fn datagrams(to: &Candidate) -> Result<UdpSocket, String> {
    let local = if to.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local).await.map_err(|error| error.to_string())?;
    to.mark.map_or(Ok(()), |mark| way::set(&socket, mark))?;
    socket.connect(to.address).await.map_err(|error| error.to_string())?;
    Ok(socket)
}

async fn lives(host: IpAddr) -> Result<IpAddr, String> {
    match TcpStream::connect((host, KUBELET)).await {
        Ok(_) => Ok(host),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(host),
        Err(error) => Err(format!("{host}: {error}")),
    }
}

async fn asked(dns: &Candidate, id: u16, question: &[u8]) -> Result<Vec<IpAddr>, String> {
    let socket = datagrams(dns).await?;
    socket.send(question).await.map_err(|error| error.to_string())?;
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer).await.map_err(|error| error.to_string())?;
    name::answer(id, &buffer[..length]).ok_or_else(|| "the cluster's DNS fails".to_owned())
}

#[cfg(test)]
mod tests {
    use coracle_shared::forward::{ForwardNode, Transport};

    use super::*;

    fn forwarding(nodes: &[(&str, &[&str])]) -> Forwarding {
        let node = |(name, addresses): &(&str, &[&str])| ForwardNode {
            name: (*name).to_owned(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let nodes = nodes.iter().map(node).collect();
        Forwarding { protocol: Transport::Tcp, listen: 8080, target: 80, nodes, service: None }
    }

    fn words(candidates: &[Candidate]) -> Vec<String> {
        candidates.iter().map(|candidate| format!("{} {}", candidate.node, candidate.address)).collect()
    }

    #[test]
    fn the_primary_family_comes_first_and_the_node_that_answered_before_it() {
        let forwarding = forwarding(&[("a", &["10.0.0.1", "fd00::1"]), ("b", &["10.0.0.2"])]);
        let all = of_nodes(&forwarding, 80);
        assert_eq!(words(&all), ["a 10.0.0.1:80", "b 10.0.0.2:80", "a [fd00::1]:80"]);
        assert_eq!(words(&preferred(all.clone(), Some("b")))[0], "b 10.0.0.2:80");
        assert_eq!(preferred(all.clone(), Some("gone")), all);
    }

    #[test]
    fn a_service_is_reached_by_way_of_every_node_of_its_family() {
        let forwarding = forwarding(&[("a", &["10.0.0.1"]), ("b", &["10.0.0.2", "fd00::2"])]);
        let by = |address: &str| {
            let candidates = of_service(&forwarding, &[address.parse().unwrap()], 80);
            candidates.into_iter().map(|candidate| (candidate.node, candidate.mark.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(by("10.96.0.1"), [("a".to_owned(), 1000), ("b".to_owned(), 1001)]);
        assert_eq!(by("fd01::1"), [("b".to_owned(), 1001)]);
    }

    #[tokio::test]
    async fn a_silent_node_only_costs_its_head_start() {
        let candidates = of_nodes(&forwarding(&[("a", &["10.0.0.1"]), ("b", &["10.0.0.2"])]), 80);
        let attempt = async |candidate: Candidate| {
            if candidate.node == "a" {
                std::future::pending::<()>().await;
            }
            Ok(candidate.node)
        };
        let begun = Instant::now();
        assert_eq!(first(candidates, attempt).await, Ok("b".to_owned()));
        assert!(begun.elapsed() < HEAD_START * 3);
    }

    #[tokio::test]
    async fn a_node_that_was_silent_is_tried_again() {
        let (candidates, tries) = (of_nodes(&forwarding(&[("a", &["10.0.0.1"])]), 80), Cell::new(0));
        let attempt = async |candidate: Candidate| {
            tries.set(tries.get() + 1);
            if tries.get() < 3 {
                std::future::pending::<()>().await;
            }
            Ok(candidate.node)
        };
        assert_eq!(first(candidates, attempt).await, Ok("a".to_owned()));
        assert_eq!(tries.get(), 3);
    }

    #[tokio::test]
    async fn a_node_that_refuses_costs_nothing_and_the_last_refusal_is_told() {
        let candidates = of_nodes(&forwarding(&[("a", &["10.0.0.1"]), ("b", &["10.0.0.2"])]), 80);
        let refuses = async |candidate: Candidate| Err::<(), _>(format!("{} refuses", candidate.node));
        assert_eq!(first(candidates, refuses).await, Err("b refuses".to_owned()));
        assert!(first(Vec::new(), refuses).await.is_err());
    }
}
