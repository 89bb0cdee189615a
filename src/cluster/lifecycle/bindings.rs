//! The host's ports of containers that are about to start: whether someone took one meanwhile, and who.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cluster::found::Cluster;
use crate::cluster::lifecycle::parts::Parts;
use crate::engine::Engine;
use crate::engine::spec::{Container, PortBinding, State};
use crate::error::{Code, Error, Problem, Result, counted};
use crate::host::ports::{self, Taken};

/// How long a taken port may take to become free: that of a program that is just ending.
const PORT_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// The other way to go on.
const MOVE: &str = "or give the cluster other ports: `coracle start --move-ports`";

/// The ports of the host that a container has when it runs.
pub(super) async fn published(engine: &dyn Engine, container: &str) -> Result<Vec<PortBinding>> {
    let inspected = engine.inspect(container).await?;
    Ok(inspected.map(|inspected| inspected.ports).unwrap_or_default())
}

/// Checks that the ports of everything that starts are free, or soon are, before anything is started.
pub(super) async fn require_free(engine: &dyn Engine, parts: &Parts) -> Result<()> {
    let mut wanted = Vec::new();
    // What is paused has kept its ports.
    for container in parts.to_start().filter(|container| container.state != State::Paused) {
        wanted.extend(
            published(engine, &container.id).await?.into_iter().map(|binding| (container.name.clone(), binding)),
        );
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + PORT_TIMEOUT;
    loop {
        let containers = engine.containers(&[]).await?;
        let taken = taken(&wanted, &containers, engine.place().is_host());
        if taken.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(taken_error(&taken));
        }
        sleep(PAUSE).await;
    }
}

/// The error that starting a stopped cluster would end with because of its ports, if it would.
pub async fn obstacle(engine: &dyn Engine, cluster: &Cluster, containers: &[Container]) -> Result<Option<Error>> {
    let mut wanted = Vec::new();
    let idle = |state| !matches!(state, State::Running | State::Restarting | State::Paused);
    for container in cluster.containers().filter(|container| idle(container.state)) {
        wanted.extend(
            published(engine, &container.id).await?.into_iter().map(|binding| (container.name.clone(), binding)),
        );
    }
    let taken = taken(&wanted, containers, engine.place().is_host());
    Ok((!taken.is_empty()).then(|| taken_error(&taken)))
}

/// The wanted ports that others have. Of another host, only the containers are known.
fn taken<'a>(wanted: &'a [(String, PortBinding)], containers: &[Container], local: bool) -> Vec<(&'a str, Taken<'a>)> {
    let find =
        |(node, binding): &'a (String, PortBinding)| Some((node.as_str(), ports::taken(binding, containers, local)?));
    wanted.iter().filter_map(find).collect()
}

/// Who has a port now, if someone has it.
pub(super) fn taken_now(engine: &dyn Engine, binding: &PortBinding, containers: &[Container]) -> Option<String> {
    ports::taken(binding, containers, engine.place().is_host()).map(|taken| taken.user)
}

fn taken_error(taken: &[(&str, Taken<'_>)]) -> Error {
    let what = |taken: &Taken<'_>| format!("port {} on {} is taken", taken.port.host_port, taken.port.host_address);
    let hint = "nothing was started; free it, and start the cluster again";
    if let [(node, one)] = taken {
        let port = one.port.host_port;
        return Error::new(Code::PortTaken, what(one))
            .on_node(*node)
            .because(one.user.clone())
            .hint(format!("`sudo ss -lnp 'sport = :{port}'` shows what uses it"))
            .hint(hint)
            .hint(MOVE);
    }
    let problem = |(node, taken): &(&str, Taken<'_>)| Problem {
        place: (*node).to_owned(),
        message: format!("{}: {}", what(taken), taken.user),
        snippet: None,
    };
    Error::new(Code::PortTaken, format!("{} of this host are taken", counted(taken.len(), "port")))
        .with_problems(taken.iter().map(problem).collect())
        .hint(hint.replace("free it", "free them"))
        .hint(MOVE)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    use super::*;
    use crate::engine::spec::Protocol;

    #[test]
    fn a_port_that_someone_took_is_told_with_who_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let host_address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let binding = PortBinding { host_address, host_port: port, container_port: 6443, protocol: Protocol::Tcp };
        let wanted = [("dev-control-plane".to_owned(), binding)];
        let error = taken_error(&taken(&wanted, &[], true));
        assert_eq!(error.message(), format!("port {port} on 127.0.0.1 is taken"));
        assert!(error.cause().unwrap().contains(&format!("(process {})", std::process::id())), "{error}");
        assert!(taken(&wanted, &[], false).is_empty());
        drop(listener);
        assert!(taken(&wanted, &[], true).is_empty());
    }
}
