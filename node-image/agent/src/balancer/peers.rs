//! Which nodes are alive, from the heartbeats of their agents. Pure: the time is a parameter.
//!
//! A heartbeat is signed with a key of the cluster that only nodes have: a pod can send a packet from any address. There is
//! no number against a repetition, because who can listen on the nodes' network is the host or a node.

use std::collections::BTreeMap;
use std::time::Duration;

use ring::hmac::{HMAC_SHA256, Key, sign, verify};
use tokio::time::Instant;

use super::ownership::Standing;

/// The interval of heartbeats.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// A node that is silent for this long counts as lost. Three heartbeats may be late or missing, as on a busy machine.
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_millis(3500);

const MAGIC: &[u8] = b"coracle-agent 2 ";
/// Length of the signature, which comes last.
const SIGNATURE: usize = 32;

/// The key of heartbeats.
pub(crate) fn key(secret: &[u8]) -> Key {
    Key::new(HMAC_SHA256, secret)
}

/// The heartbeat of a node.
pub(crate) fn encode(key: &Key, name: &str, is_serving: bool) -> Vec<u8> {
    let content = [MAGIC, if is_serving { b"+" } else { b"-" }, name.as_bytes()].concat();
    let signature = sign(key, &content);
    [&content, signature.as_ref()].concat()
}

/// The name of the node and whether it serves, from a heartbeat that has the cluster's signature.
pub(crate) fn decode<'d>(key: &Key, datagram: &'d [u8]) -> Option<(&'d str, bool)> {
    let (content, signature) = datagram.split_at_checked(datagram.len().checked_sub(SIGNATURE)?)?;
    verify(key, content, signature).ok()?;
    let (sign, name) = content.strip_prefix(MAGIC)?.split_first()?;
    let is_serving = match sign {
        b'+' => true,
        b'-' => false,
        _ => return None,
    };
    Some((std::str::from_utf8(name).ok()?, is_serving))
}

/// The heartbeats of other nodes.
#[derive(Debug)]
pub(crate) struct Peers {
    since: Instant,
    heard: BTreeMap<String, (Instant, Standing)>,
}

impl Peers {
    /// No heartbeat was received yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, heard: BTreeMap::new() }
    }

    /// Records a heartbeat; returns the previous standing of the node.
    pub(crate) fn hear(&mut self, name: &str, is_serving: bool, now: Instant) -> Standing {
        let before = self.standing(name, now);
        let standing = if is_serving { Standing::Serving } else { Standing::Starting };
        self.heard.insert(name.to_owned(), (now, standing));
        before
    }

    /// The standing of a node. An agent that has just started assumes that the others serve, until it could have heard them.
    pub(crate) fn standing(&self, name: &str, now: Instant) -> Standing {
        match self.heard.get(name) {
            Some((at, standing)) if now < *at + SILENCE_TIMEOUT => *standing,
            None if now < self.since + SILENCE_TIMEOUT => Standing::Serving,
            _ => Standing::Lost,
        }
    }

    /// When the next node is lost, unless it is heard before.
    pub(crate) fn next_loss(&self, now: Instant) -> Option<Instant> {
        let heard = self.heard.values().map(|(at, _)| *at + SILENCE_TIMEOUT);
        heard.chain([self.since + SILENCE_TIMEOUT]).filter(|at| *at > now).min()
    }

    /// Forgets nodes that no longer exist.
    pub(crate) fn retain(&mut self, is_node: impl Fn(&str) -> bool) {
        self.heard.retain(|name, _| is_node(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_read_as_it_was_written_and_nothing_else_is() {
        let key = key(b"secret");
        let signed = |content: &[u8]| [content, sign(&key, content).as_ref()].concat();
        assert_eq!(decode(&key, &encode(&key, "dev-worker", true)), Some(("dev-worker", true)));
        assert_eq!(decode(&key, &encode(&key, "dev-worker", false)), Some(("dev-worker", false)));
        let wrong =
            [&b""[..], b"coracle-agent 2 ", b"coracle-agent 2 x", b"coracle-agent 1 +a", b"coracle-agent 2 +\xff"];
        for other in wrong {
            assert_eq!(decode(&key, other), None);
            assert_eq!(decode(&key, &signed(other)), None);
        }
    }

    #[test]
    fn a_heartbeat_without_the_clusters_key_is_not_heard() {
        let (ours, other) = (key(b"secret"), key(b"of another cluster"));
        assert_eq!(decode(&ours, &encode(&other, "dev-worker", true)), None);
        assert_eq!(decode(&ours, b"coracle-agent 2 +dev-worker"), None);
        let mut changed = encode(&ours, "dev-worker", true);
        changed[MAGIC.len()] = b'-';
        assert_eq!(decode(&ours, &changed), None);
    }

    #[test]
    fn a_silent_node_is_lost_after_three_beats_and_back_with_the_next() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut peers = Peers::new(start);
        assert_eq!(peers.standing("b", at(3499)), Standing::Serving, "it could not have been heard yet");
        assert_eq!(peers.standing("b", at(3500)), Standing::Lost);
        assert_eq!(peers.hear("b", false, at(4000)), Standing::Lost);
        assert_eq!(peers.standing("b", at(4000)), Standing::Starting);
        assert_eq!(peers.hear("b", true, at(5000)), Standing::Starting);
        assert_eq!(peers.next_loss(at(5000)), Some(at(8500)));
        assert_eq!(peers.standing("b", at(8499)), Standing::Serving);
        assert_eq!(peers.standing("b", at(8500)), Standing::Lost);
        assert_eq!(peers.next_loss(at(8500)), None);
        peers.hear("b", true, at(9000));
        peers.retain(|name| name != "b");
        assert_eq!(peers.standing("b", at(9000)), Standing::Lost);
    }
}
