//! The checks before a cluster is made, in the order in which `create` tells of what fails; `doctor` looks at the same ones.

use ipnet::IpNet;

use crate::cluster::lifecycle::preflight;
use crate::config::{ClusterConfig, Networking};
use crate::engine::Engine;
use crate::engine::spec::{Container, EngineInfo, Network, Volume};
use crate::error::{Code, Error, Problem, Result};
use crate::host::check::{self, Check, Found};
use crate::host::checks::{Id, Severity};
use crate::host::routes::{self, Route};
use crate::host::{grants, limits, mounts, ports, proxy};
use crate::plan::{self, ProxySettings, labels};

/// The network that the engine makes by itself; its packet size is that of the engine's configuration (`mtu`).
const DEFAULT_NETWORK: &str = "bridge";
/// What is told together, each with its place in the configuration.
const PLACED: [Id; 7] = [
    Id::MemoryTooLarge,
    Id::CpusTooMany,
    Id::UlimitTooHigh,
    Id::DeviceMissing,
    Id::MountMissing,
    Id::MountNotShared,
    Id::AddressAbsent,
];

/// What the checks look at: a configuration, the engine and this host.
pub struct Subject<'a> {
    pub info: &'a EngineInfo,
    pub cluster: &'a ClusterConfig,
    /// The engine runs on this host.
    pub local: bool,
    proxy: &'a ProxySettings,
    /// All containers of the engine.
    pub containers: Vec<Container>,
    pub networks: Vec<Network>,
    /// Those with the name of the cluster.
    volumes: Vec<Volume>,
    routes: Vec<Route>,
}

impl<'a> Subject<'a> {
    /// Asks the engine, which has said `info` of itself, and this host.
    pub async fn look(
        engine: &dyn Engine,
        info: &'a EngineInfo,
        cluster: &'a ClusterConfig,
        proxy: &'a ProxySettings,
        local: bool,
    ) -> Result<Self> {
        Ok(Self {
            info,
            cluster,
            local,
            proxy,
            containers: engine.containers(&[]).await?,
            networks: engine.networks().await?,
            volumes: engine.volumes(&[format!("{}={}", labels::CLUSTER, cluster.name)]).await?,
            routes: routes_of(local),
        })
    }

    /// The packet size of the engine's networks, if it is not the usual one.
    pub fn mtu(&self) -> Option<u32> {
        self.networks.iter().find(|network| network.name == DEFAULT_NETWORK).and_then(|network| network.mtu)
    }

    /// The proxy settings as nodes can use them, and warnings about those that they cannot use.
    pub fn proxy(&self) -> (ProxySettings, Vec<String>) {
        let families: Vec<bool> = self.cluster.networking.families().collect();
        proxy::for_nodes(self.proxy, &families, self.is_here())
    }

    /// All checks but those of ports and of the kubeconfig, which `create` gives some time.
    pub fn checks(&self) -> Vec<Check> {
        let limits = self.local.then(|| limits::checks(self.info, self.cluster, &self.containers));
        let mut checks = limits.unwrap_or_default();
        checks.extend(self.placed());
        checks.extend(self.name());
        checks.extend(self.network());
        let (_, proxies) = self.proxy();
        checks.extend(check::each(Id::Proxy, proxies.into_iter().map(|text| Error::new(Code::StepFailed, text))));
        checks.extend(check::each(Id::RouteAcross, preflight::routes(&self.cluster.networking, &self.routes)));
        if self.local {
            checks.push(Check::unless(Id::InotifyTight, limits::tight_inotify(self.cluster, &self.containers)));
        }
        checks
    }

    fn is_here(&self) -> bool {
        self.local && limits::is_here(self.info)
    }

    /// What the configuration names, each check with all of its problems.
    fn placed(&self) -> Vec<Check> {
        let here = self.is_here();
        let mut found: Vec<Found> = grants::problems(self.info, self.cluster, here);
        if here {
            found.extend(mounts::problems(self.cluster));
            found.extend(ports::addresses(self.cluster));
        }
        let of = |id: Id| found.iter().filter(|(other, _)| *other == id).map(|(_, problem)| problem.clone()).collect();
        PLACED.map(|id| Check::new(id, preflight::host(self.cluster, of(id)))).into()
    }

    fn name(&self) -> Vec<Check> {
        let name = &self.cluster.name;
        let is_ours =
            |container: &&Container| container.labels.get(labels::CLUSTER).is_some_and(|other| other == name.as_str());
        let of_cluster: Vec<Container> = self.containers.iter().filter(is_ours).cloned().collect();
        preflight::name(name, &of_cluster, &self.volumes)
    }

    fn network(&self) -> Vec<Check> {
        let networking = &self.cluster.networking;
        let wanted = || networking.node_subnet.iter();
        let first = |result: &dyn Fn(IpNet) -> Result<()>| wanted().find_map(|subnet| result(subnet).err());
        let taken = taken(networking, &self.networks, &self.routes);
        let is_full = plan::subnet::choices(networking, &taken, 1).is_empty();
        vec![
            Check::new(Id::SmallPackets, preflight::ipv6_fits(networking, self.mtu())),
            Check::unless(Id::SubnetInUse, first(&|subnet| preflight::subnet(subnet, &self.networks))),
            Check::unless(Id::SubnetRouted, first(&|subnet| preflight::routed(subnet, &self.routes))),
            Check::unless(Id::NoSubnet, is_full.then(preflight::no_subnet)),
        ]
    }
}

/// Fails as the first check that failed, with all that is wrong in the configuration if that is the first; else returns the
/// warnings.
pub fn require(cluster: &ClusterConfig, checks: &[Check]) -> Result<Vec<String>> {
    let failures = || checks.iter().filter_map(|check| check.failure(Severity::Error));
    if failures().next().is_some_and(|first| first.code() == Code::ConfigInvalid) {
        let placed = failures().filter(|error| error.code() == Code::ConfigInvalid);
        let problems: Vec<Problem> = placed.flat_map(Error::problems).cloned().collect();
        preflight::host(cluster, problems)?;
    }
    check::require(checks)?;
    Ok(checks.iter().filter_map(|check| check.failure(Severity::Warning)).map(check::sentence).collect())
}

/// The routes of the engine's host, as far as they can be known.
pub fn routes_of(local: bool) -> Vec<Route> {
    if local { routes::all() } else { Vec::new() }
}

/// The subnets that a new network cannot have.
pub fn taken(networking: &Networking, networks: &[Network], routes: &[Route]) -> Vec<IpNet> {
    let mut taken: Vec<IpNet> = networks.iter().flat_map(|network| network.subnets.iter().copied()).collect();
    taken.extend(routes.iter().filter(|route| route.leads_to_a_network()).map(|route| route.net));
    taken.extend(networking.pod_subnet.iter().chain(networking.service_subnet.iter()));
    taken
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
