//! A way to the API server that delays, cuts connections and loses answers at random, for one command only.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::run::{LIMIT, run};

/// The group that the command runs as: its connections take the detour, and those of the proxy do not.
const GROUP: u32 = 47_321;

/// What happened to connections so far.
#[derive(Default)]
pub struct Tally {
    /// Connections that were cut before a request reached the server.
    pub cut: AtomicUsize,
    /// Answers that were thrown away after the server had carried out the request.
    pub lost: AtomicUsize,
    /// Pieces that were held up.
    pub delayed: AtomicUsize,
}

/// A detour from `127.0.0.1:PORT` through an unreliable proxy; it ends with this value.
pub struct Detour {
    table: String,
    pub tally: Arc<Tally>,
}

impl Detour {
    /// Leads the connections of commands of [`Detour::through`] to this port through the proxy. The seed decides what happens.
    pub fn to(port: u16, seed: u64) -> Result<Self, String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
        let proxy = listener.local_addr().map_err(|error| error.to_string())?.port();
        let table = format!("t-accept-detour-{}", std::process::id()).replace('-', "_");
        let detour = Self { table, tally: Arc::default() };
        let rule = format!(
            "add table ip {0}; add chain ip {0} out {{ type nat hook output priority -110; }}; \
             add rule ip {0} out meta skgid {GROUP} ip daddr 127.0.0.1 tcp dport {port} redirect to :{proxy}",
            detour.table
        );
        nft(&rule)?;
        let (tally, dice) = (Arc::clone(&detour.tally), Arc::new(Dice(AtomicU64::new(seed | 1))));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (tally, dice) = (Arc::clone(&tally), Arc::clone(&dice));
                thread::spawn(move || relay(&client, port, &tally, &dice));
            }
        });
        Ok(detour)
    }

    /// The command, whose connections take the detour.
    pub fn through(mut command: Command) -> Command {
        command.gid(GROUP);
        command
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        let _ = nft(&format!("delete table ip {}", self.table));
    }
}

fn nft(rules: &str) -> Result<(), String> {
    let mut command = Command::new("nft");
    command.arg(rules);
    run(command, None, LIMIT)?.ok().map(drop)
}

/// Numbers that look random, and are the same for a seed.
struct Dice(AtomicU64);

impl Dice {
    /// A number from 0 to 99.
    fn throw(&self) -> u64 {
        let mut value = self.0.load(Ordering::Relaxed);
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
        self.0.store(value, Ordering::Relaxed);
        (value >> 20) % 100
    }
}

fn relay(client: &TcpStream, port: u16, tally: &Arc<Tally>, dice: &Arc<Dice>) {
    if dice.throw() < 10 {
        tally.cut.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    let (Ok(from_client), Ok(to_client)) = (client.try_clone(), client.try_clone()) else { return };
    let Ok(to_server) = server.try_clone() else { return };
    let (counted, thrown) = (Arc::clone(tally), Arc::clone(dice));
    let requests = thread::spawn(move || {
        pass(from_client, to_server, |_| {
            let is_cut = thrown.throw() < 3;
            counted.cut.fetch_add(usize::from(is_cut), Ordering::Relaxed);
            is_cut
        });
    });
    let mut pieces = 0;
    pass(server, to_client, |_| {
        pieces += 1;
        let thrown = dice.throw();
        // The first pieces are the TLS handshake, in which nothing of a request can be lost.
        if pieces > 3 && thrown < 12 {
            tally.lost.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        if thrown > 80 {
            tally.delayed.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20 * (thrown - 80)));
        }
        false
    });
    let _ = requests.join();
}

/// Copies from one to the other until either ends or the decision says that the connection is cut: what was read is lost then.
fn pass(mut from: TcpStream, mut to: TcpStream, mut is_cut: impl FnMut(&[u8]) -> bool) {
    let mut piece = vec![0; 65_536];
    while let Ok(count) = from.read(&mut piece) {
        if count == 0 || is_cut(&piece[..count]) || to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
