//! Which process made something, and whether it still runs: by its number, the moment at which it began, and where it is.

use std::fs;

/// The first process of every machine and of every container.
const FIRST: u32 = 1;

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Lives,
    /// It has ended.
    Gone,
    /// It is of another machine, of another container, from before this machine booted, or hidden from this user.
    Unknown,
}

/// The mark of this process: `PID-START-PLACE`, in hexadecimal digits.
pub fn own() -> String {
    let pid = std::process::id();
    format!("{pid:x}-{:x}-{}", start(pid).unwrap_or_default(), place())
}

/// What is known of the process with this mark.
pub fn life(mark: &str) -> Life {
    let parts: Vec<&str> = mark.split('-').collect();
    let [pid, began, at] = parts[..] else { return Life::Unknown };
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (Some(pid), Some(began)) = (number(pid).and_then(|pid| u32::try_from(pid).ok()), number(began)) else {
        return Life::Unknown;
    };
    // Without a beginning or a place, another process with this number cannot be told from it.
    if began == 0 || at.is_empty() || at != place() {
        return Life::Unknown;
    }
    // Where other users' processes are hidden (`hidepid`), one that is not seen may live.
    if start(FIRST).is_none() {
        return Life::Unknown;
    }
    // Another process may have got the number since.
    if start(pid) == Some(began) { Life::Lives } else { Life::Gone }
}

/// When a process began, in the kernel's ticks since the machine booted.
fn start(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may contain anything; the beginning is field 22, and this is field 3 on.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    // One that has ended stays as a zombie until its parent asks for it, and in containers no one may.
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// The boot of the machine and the namespace of processes; empty if this system does not tell.
fn place() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    if boot.is_empty() || namespace.as_os_str().is_empty() {
        return String::new();
    }
    // FNV-1a: it need not be secret, only different.
    let text = format!("{}{}", boot.trim(), namespace.display());
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let own = own();
        assert_eq!(life(&own), Life::Lives);
        let parts: Vec<&str> = own.split('-').collect();
        // The same number, but begun at another time; and another place.
        assert_eq!(life(&format!("{}-1-{}", parts[0], parts[2])), Life::Gone);
        assert_eq!(life(&format!("{}-{}-0", parts[0], parts[1])), Life::Unknown);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mark = format!("{:x}-{:x}-{}", child.id(), start(child.id()).unwrap(), parts[2]);
        assert_eq!(life(&mark), Life::Lives);
        // No one has asked for its end yet.
        child.kill().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while life(&mark) == Life::Lives && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(life(&mark), Life::Gone);
        child.wait().unwrap();
        assert_eq!(life(&mark), Life::Gone);
        for wrong in ["", "1", "1-2", "x-y-z", "0-0-"] {
            assert_eq!(life(wrong), Life::Unknown, "{wrong}");
        }
    }
}
