//! Datagrams of UDP. Those of one client go to one place, so that a conversation stays with its pod, until that place
//! refuses them or its node is gone.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::target::{Candidate, Targets, datagrams};
use crate::log::Failures;

/// After so long without a datagram, a client's conversation is over, as for kube-proxy and for the engine's proxy.
const IDLE: Duration = Duration::from_secs(120);
/// A place that did not answer for so long may be that of a node that is gone.
const DOUBT: Duration = Duration::from_secs(1);
/// How often a conversation that was never answered gets another socket.
const MAX_ATTEMPTS: u32 = 4;
/// The longest datagram.
const LARGEST: usize = 65_535;
/// Datagrams of one client that wait; more are lost, as on any way.
const WAITING: usize = 256;
/// Clients at once; with more, the conversations of new ones are not begun.
const CLIENTS: usize = 16_384;

/// Listens at a port, and leads the datagrams of each client to the port of a target.
pub(super) async fn serve(port: u16, target: u16, targets: Rc<Targets>) -> Result<(), String> {
    let socket = listen(port).await.map_err(|error| format!("cannot listen at port {port}: {error}"))?;
    let (socket, mut clients) = (Rc::new(socket), HashMap::<SocketAddr, mpsc::Sender<Vec<u8>>>::new());
    let mut buffer = vec![0; LARGEST];
    loop {
        // An error is that of an earlier reply, whose client is gone.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let datagram = buffer[..length].to_vec();
        let unsent = match clients.get(&client) {
            None => Some(datagram),
            Some(sender) => match sender.try_send(datagram) {
                Err(mpsc::error::TrySendError::Closed(datagram)) => Some(datagram),
                Err(mpsc::error::TrySendError::Full(_)) | Ok(()) => None,
            },
        };
        let Some(datagram) = unsent else { continue };
        if clients.len() >= CLIENTS {
            clients.retain(|_, sender| !sender.is_closed());
        }
        if clients.len() < CLIENTS {
            let (sender, receiver) = mpsc::channel(WAITING);
            let _ = sender.try_send(datagram);
            clients.insert(client, sender);
            let link = Conversation::new(target, targets.clone());
            spawn_local(converse(link, socket.clone(), client, receiver));
        }
    }
}

/// Every address of both families, or of IPv4 where there is no IPv6.
async fn listen(port: u16) -> io::Result<UdpSocket> {
    match UdpSocket::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(socket) => Ok(socket),
        Err(_) => UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

/// The conversation of one client.
struct Conversation {
    target: u16,
    targets: Rc<Targets>,
    failures: Failures,
    /// The place that it goes to now.
    place: Option<(UdpSocket, Candidate)>,
    /// Places that are still to be tried with the last datagram.
    others: Vec<Candidate>,
    /// Whether anything ever answered.
    has_answered: bool,
    /// How often a place was chosen since something answered.
    tries: u32,
    /// The last datagram, while nothing has answered, and since when nothing has.
    unanswered: Option<(Vec<u8>, Instant)>,
}

impl Conversation {
    fn new(target: u16, targets: Rc<Targets>) -> Self {
        let (failures, others) = (Failures::default(), Vec::new());
        Self { target, targets, failures, place: None, others, has_answered: false, tries: 0, unanswered: None }
    }

    /// Sends a datagram to the place, which is chosen anew if there is none or it is in doubt.
    async fn send(&mut self, datagram: Vec<u8>) {
        let since = self.unanswered.take().map_or_else(Instant::now, |(_, since)| since);
        let is_doubtful = since.elapsed() > DOUBT;
        if self.place.is_none() || is_doubtful {
            self.choose(is_doubtful).await;
        }
        let since = if is_doubtful { Instant::now() } else { since };
        if let Some((socket, _)) = &self.place
            && let Err(error) = socket.send(&datagram).await
        {
            self.unanswered = Some((datagram, since));
            self.refused(&error.to_string()).await;
            return;
        }
        self.unanswered = Some((datagram, since));
    }

    async fn choose(&mut self, is_doubtful: bool) {
        if is_doubtful {
            self.targets.doubt();
        }
        match self.targets.living(self.target).await {
            Ok(mut places) => {
                // To whom no one ever answered it may be one-way: its place is kept, because its pod knows the client. Else
                // another socket is another connection for kube-proxy, and may go to another pod.
                let is_same = |place: &(UdpSocket, Candidate)| places.first() == Some(&place.1);
                self.tries += 1;
                if !self.place.as_ref().is_some_and(is_same) || self.has_answered || self.tries <= MAX_ATTEMPTS {
                    places.reverse();
                    self.others = places;
                    self.next().await;
                }
            }
            Err(error) => {
                self.place = None;
                self.failures.report(format!("port {}: {error}", self.target));
            }
        }
    }

    /// Goes to the next place, if there is one.
    async fn next(&mut self) {
        self.place = None;
        while let Some(candidate) = self.others.pop() {
            match datagrams(&candidate).await {
                Ok(socket) => {
                    self.place = Some((socket, candidate));
                    return;
                }
                Err(error) => self.failures.report(format!("{}: {error}", candidate.address)),
            }
        }
    }

    /// The place does not take datagrams: the last one goes to the next place.
    async fn refused(&mut self, error: &str) {
        if let Some((_, candidate)) = &self.place {
            self.failures.report(format!("{} by {}: {error}", candidate.address, candidate.node));
        }
        self.next().await;
        if let (Some((socket, _)), Some((datagram, _))) = (&self.place, &self.unanswered) {
            let _ = socket.send(datagram).await;
        }
    }

    /// The next datagram of the place; without a place there is none.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.place {
            Some((socket, _)) => socket.recv(buffer).await,
            None => std::future::pending().await,
        }
    }
}

async fn converse(
    mut link: Conversation,
    listener: Rc<UdpSocket>,
    client: SocketAddr,
    mut inbox: mpsc::Receiver<Vec<u8>>,
) {
    let mut buffer = vec![0; LARGEST];
    let step = async |link: &mut Conversation| {
        tokio::select! {
            datagram = inbox.recv() => match datagram {
                Some(datagram) => link.send(datagram).await,
                None => return false,
            },
            received = link.receive(&mut buffer) => match received {
                Ok(length) => {
                    (link.unanswered, link.has_answered, link.tries) = (None, true, 0);
                    link.failures.clear();
                    if let Some((_, candidate)) = &link.place {
                        link.targets.prefer(candidate);
                    }
                    let _ = listener.send_to(&buffer[..length], client).await;
                }
                Err(error) => link.refused(&error.to_string()).await,
            },
        }
        true
    };
    let mut step = step;
    while timeout(IDLE, step(&mut link)).await.unwrap_or(false) {}
}
