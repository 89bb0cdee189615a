//! Connections of TCP.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::target::Targets;
use crate::log::Failures;

/// What is read at once.
const BUFFER: usize = 64 << 10;
/// Seconds after which a silent connection is probed, and between two probes: a node that is gone says nothing.
const KEEP_ALIVE: (u32, u32) = (30, 10);
/// Pause after a failure that another connection would have too, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens at a port, and leads each connection to the port of a target.
pub(super) async fn serve(port: u16, target: u16, targets: Rc<Targets>) -> Result<(), String> {
    let listener = listen(port).await.map_err(|error| format!("cannot listen at port {port}: {error}"))?;
    let failures = Rc::new(RefCell::new(Failures::default()));
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(spawn_local(forward(client, target, targets.clone(), failures.clone()))),
            Err(error) => {
                failures.borrow_mut().report(format!("cannot take a connection: {error}"));
                sleep(PAUSE).await;
            }
        }
    }
}

/// Every address of both families, or of IPv4 where there is no IPv6.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

async fn forward(mut client: TcpStream, target: u16, targets: Rc<Targets>, failures: Rc<RefCell<Failures>>) {
    let mut server = match targets.connect(target).await {
        Ok((server, _)) => server,
        Err(error) => {
            failures.borrow_mut().report(format!("port {target}: {error}"));
            // A connection that just ended would look like an empty answer.
            let _ = client.set_zero_linger();
            return;
        }
    };
    failures.borrow_mut().clear();
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(stream, sockopt::KeepAlive, &true);
        let _ = setsockopt(stream, sockopt::TcpKeepIdle, &KEEP_ALIVE.0);
        let _ = setsockopt(stream, sockopt::TcpKeepInterval, &KEEP_ALIVE.1);
    }
    if copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await.is_err() {
        // What one side sees as a failure is one for the other side too.
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}
