//! A question to the cluster's DNS: the addresses of a Service. The system's resolver could not be told by which node to ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const A: u16 = 1;
const AAAA: u16 = 28;
/// The name does not exist.
const NO_SUCH_NAME: u8 = 3;

/// A question for the addresses of a name in one family.
pub(super) fn question(id: u16, name: &str, v4: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(name.len() + 18);
    // Recursion desired, one question.
    for word in [id, 0x0100, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    message.push(0);
    for word in [if v4 { A } else { AAAA }, 1] {
        message.extend(word.to_be_bytes());
    }
    message
}

/// The addresses in an answer, none if the name does not exist; `None` if it is no answer to the question with this ID.
pub(super) fn answer(id: u16, message: &[u8]) -> Option<Vec<IpAddr>> {
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let is_answer = message.get(2)? & 0x80 != 0;
    if word(0)? != id || !is_answer {
        return None;
    }
    match message.get(3)? & 0x0f {
        0 => {}
        NO_SUCH_NAME => return Some(Vec::new()),
        _ => return None,
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = after_name(message, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..word(6)? {
        at = after_name(message, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        match kind {
            A => addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            AAAA => addresses.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            _ => {}
        }
        at += 10 + length;
    }
    Some(addresses)
}

/// Where the name at this place ends.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            // The rest of the name is elsewhere in the message.
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(id: u16, code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = question(id, "a.default.svc.cluster.local", true);
        (message[2], message[3]) = (0x85, code);
        message[7] = u8::try_from(records.len()).unwrap();
        for (kind, data) in records {
            message.extend([0xc0, 12]);
            for word in [*kind, 1, 0, 30, u16::try_from(data.len()).unwrap()] {
                message.extend(word.to_be_bytes());
            }
            message.extend(*data);
        }
        message
    }

    #[test]
    fn the_addresses_of_an_answer_are_read() {
        let found = answer(7, &reply(7, 0, &[(5, &[1, b'b', 0]), (A, &[10, 96, 0, 7])]));
        assert_eq!(found, Some(vec!["10.96.0.7".parse().unwrap()]));
        let v6 = "fd00::7".parse::<Ipv6Addr>().unwrap();
        assert_eq!(answer(7, &reply(7, 0, &[(AAAA, &v6.octets())])), Some(vec![v6.into()]));
    }

    #[test]
    fn a_name_that_does_not_exist_has_no_address_and_a_failure_is_no_answer() {
        assert_eq!(answer(7, &reply(7, NO_SUCH_NAME, &[])), Some(Vec::new()));
        assert_eq!(answer(7, &reply(7, 2, &[])), None);
        assert_eq!(answer(8, &reply(7, 0, &[])), None);
        assert_eq!(answer(7, &question(7, "a.b", true)), None);
    }

    #[test]
    fn a_message_that_is_cut_off_is_no_answer() {
        let whole = reply(7, 0, &[(A, &[10, 96, 0, 7])]);
        for end in 0..whole.len() {
            assert_eq!(answer(7, &whole[..end]), None, "{end}");
        }
    }
}
