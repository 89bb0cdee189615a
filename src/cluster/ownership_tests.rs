//! A walk over every name that coracle gives in the engine. What has such a name already, and is not coracle's, makes
//! coracle refuse before it makes anything; and it is untouched by everything that coracle does then.
//!
//! The names are not listed here: each way of making things is tried first on an empty engine, which keeps a record. A new
//! name is part of the walk as soon as something is made under it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::catalog;
use crate::cluster::lifecycle::create::{self, Options};
use crate::cluster::lifecycle::delete::{self, Scope};
use crate::cluster::run::Run;
use crate::cluster::tunnel;
use crate::cluster::{get, port, registry};
use crate::config::{ClusterConfig, ClusterName, LocalRegistry, Node, Role};
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{Image, Labels};
use crate::engine::{SharedEngine, helper};
use crate::error::{Code, Result};
use crate::kubeconfig::Location;
use crate::plan::facts::Registry;
use crate::plan::{ProxySettings, labels};
use crate::ui::{Ui, UiOptions};

const CLUSTER: &str = "t-walk";
const REGISTRY: &str = "t-walk-registry";

/// The ways in which coracle makes things in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Several control planes, a worker and a registry.
    Create,
    /// With a node image into which a container looks.
    CreateFromKind,
    Tunnel,
    /// Two ports of this host, one of them not at the usual address.
    Port,
    Registry,
}

fn image(id: &str, tag: &str, labels: Labels) -> Image {
    let (id, tags) = (id.to_owned(), vec![tag.to_owned()]);
    Image { id, labels, layers: Vec::new(), tags, environment: Vec::new(), size: 1, platform: Default::default() }
}

fn engine() -> FakeEngine {
    let of_node = Labels::from([(labels::VERSION.to_owned(), "v1.36.3".to_owned())]);
    let registry = catalog::registry().unwrap();
    let inputs = crate::node_image::inputs_of(&registry);
    let of_registry = Labels::from([(crate::node_image::INPUTS_LABEL.to_owned(), inputs)]);
    FakeEngine::new(&[])
        .with_image(image("sha256:1", "coracle/node:v1.36.3", of_node))
        .with_image(image("sha256:2", "kindest/node:v1.36.3", Labels::new()))
        .with_image(image("sha256:3", &registry.image().unwrap(), of_registry))
        .on_download(|_, path| {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(7);
            tar.append_data(&mut header, path.trim_start_matches('/'), &b"v1.36.3"[..]).unwrap();
            (path == "/kind/version").then(|| tar.into_inner().unwrap())
        })
}

fn name() -> ClusterName {
    CLUSTER.parse().unwrap()
}

impl Way {
    const ALL: [Self; 5] = [Self::Create, Self::CreateFromKind, Self::Tunnel, Self::Port, Self::Registry];

    /// What must be there for it.
    async fn prepare(self, engine: &Arc<FakeEngine>) {
        if [Self::Tunnel, Self::Port].contains(&self) {
            let _ = Self::create(engine, None, true).await;
        }
    }

    async fn go(self, engine: &Arc<FakeEngine>) -> Result<()> {
        let shared: SharedEngine = engine.clone();
        let ui = Ui::captured(UiOptions::default()).0;
        match self {
            Self::Create => Self::create(engine, None, true).await,
            Self::CreateFromKind => Self::create(engine, Some("kindest/node:v1.36.3"), true).await,
            Self::Tunnel => {
                let cluster = get(&*shared, &name()).await?;
                tunnel::open(&shared, &cluster, &[], "tunnel", &ui.step("")).await
            }
            Self::Port => {
                let cluster = get(&*shared, &name()).await?;
                let ports = ["8080:30080", "127.0.0.2:8081:30081"].map(str::to_owned);
                port::add(&Run::new(&shared, &ui, "run", Duration::ZERO), &cluster, &ports, "default", false)
                    .await
                    .map(drop)
            }
            Self::Registry => {
                let wanted = Registry { name: REGISTRY.to_owned(), port: 5051 };
                registry::ensure(&Run::new(&shared, &ui, "run", Duration::ZERO), &wanted, false).await.map(drop)
            }
        }
    }

    /// Creates a cluster as far as this engine can: no API server answers.
    async fn create(engine: &Arc<FakeEngine>, image: Option<&str>, retain: bool) -> Result<()> {
        let mut cluster = ClusterConfig::new(name());
        let roles = [Role::ControlPlane, Role::ControlPlane, Role::ControlPlane, Role::Worker];
        cluster.nodes = roles.map(Node::new).to_vec();
        cluster.image = image.map(str::to_owned);
        cluster.registry = Some(LocalRegistry::Named(REGISTRY.to_owned()));
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            wait: Duration::ZERO,
            retain,
            logs: None,
            cache: None,
            docker_config: None,
            is_awaited: true,
            written: None,
            kubeconfig: Location::new(Some(&directory.path().join("config")), None, None).unwrap(),
            proxy: ProxySettings::default(),
            local: false,
            logins: Vec::new(),
        };
        // Of this host, so that the connection is refused at once: elsewhere, the network may swallow it for seconds.
        cluster.networking.api_server_address = "127.0.0.3".parse().unwrap();
        let (shared, ui): (SharedEngine, _) = (engine.clone(), Ui::captured(UiOptions::default()).0);
        match create::create(&shared, cluster, &options, &ui, &CancellationToken::new()).await {
            Err(error) if [Code::ApiFailed, Code::NotReady].contains(&error.code()) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The names under which it makes things: those that are the same the second time. Others cannot be taken beforehand.
    async fn names(self) -> Vec<String> {
        let mut made = Vec::new();
        for _ in 0..2 {
            let engine = Arc::new(engine());
            self.prepare(&engine).await;
            let before = engine.made().len();
            self.go(&engine).await.unwrap_or_else(|error| panic!("{self:?}: {error}"));
            made.push(engine.made().split_off(before).into_iter().collect::<BTreeSet<String>>());
        }
        made[0].intersection(&made[1]).cloned().collect()
    }
}

/// Everything that removes things.
async fn remove_all(engine: &Arc<FakeEngine>) {
    let shared: SharedEngine = engine.clone();
    for cluster in delete::names(&shared).await.unwrap() {
        delete::delete(&shared, &Scope::Cluster(cluster)).await.unwrap();
    }
    delete::delete(&shared, &Scope::Cluster(name())).await.unwrap();
    tunnel::close(&*shared, "tunnel").await.unwrap();
    registry::delete(&shared, REGISTRY, true).await.unwrap();
    registry::abandon(&shared, REGISTRY, "run").await.unwrap();
    helper::sweep_all(&*shared).await;
    helper::settle().await;
}

#[tokio::test]
async fn whatever_has_a_name_of_coracles_is_refused_by_name_and_untouched() {
    let mut walked = 0;
    for way in Way::ALL {
        let names = way.names().await;
        assert!(way != Way::Port || names.len() == 2, "{names:?}");
        for thing in names {
            let engine = Arc::new(engine());
            way.prepare(&engine).await;
            engine.put(&thing);
            let before = engine.others();
            let error = way.go(&engine).await.expect_err(&format!("{way:?} in spite of {thing}"));
            let (kind, name) = thing.split_once(' ').unwrap();
            let told = format!("{kind} `{name}` exists and does not belong to coracle");
            assert!(error.message() == told || error.lines().contains(&told), "{way:?}, {thing}: {error:?}");
            assert!(error.hints().iter().any(|hint| hint.contains(name)), "{way:?}, {thing}: {error:?}");
            // A container that only looks into an image has a name of its own, and is gone.
            let made = engine.made();
            assert!(made.iter().all(|made| made.starts_with("container coracle-look-")), "{way:?}, {thing}: {made:?}");
            assert_eq!(engine.others(), before, "{way:?} changed {thing}");
            remove_all(&engine).await;
            assert_eq!(engine.others(), before, "removing changed {thing}");
            assert_eq!(engine.left().len(), before.lines().count(), "{:?}", engine.left());
            walked += 1;
        }
    }
    assert!(walked > 27, "the walk has only {walked} names");
}

#[tokio::test]
async fn whatever_fails_in_a_create_nothing_of_others_is_touched() {
    let planted = |engine: &Arc<FakeEngine>| {
        // Names that a create does not need, among them those of a tunnel and of another registry.
        for thing in ["container t-walk-tunnel", "container coracle-registry", "volume t-walk", "network t-walk"] {
            engine.put(thing);
        }
        engine.others()
    };
    let whole = Arc::new(engine());
    let before = planted(&whole);
    Way::create(&whole, None, false).await.unwrap();
    assert_eq!(whole.others(), before);
    let calls = whole.transcript().len();
    for call in 1..=calls {
        let engine = Arc::new(engine().failing_at(call));
        let before = planted(&engine);
        let _ = Way::create(&engine, None, false).await;
        assert_eq!(engine.others(), before, "call {call} failed");
        remove_all(&engine).await;
        assert_eq!(engine.others(), before, "call {call} failed, and all was removed");
        assert_eq!(engine.left().len(), before.lines().count(), "{:?}", engine.left());
    }
}
