//! A container that lives as long as a value: created, used, and removed even if its use fails or is interrupted.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::engine::conversation::ByteStream;
use crate::engine::process::{self, Life};
pub use crate::engine::spec::HELPER_LABEL as LABEL;
pub use crate::engine::spec::PROCESS_LABEL;
use crate::engine::spec::{Container, ContainerSpec, Image, Labels, Mount, Volume};
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Result};

/// The interval and the number of attempts to remove a dropped helper.
const REMOVAL: (Duration, u32) = (Duration::from_millis(20), 100);
/// How often an engine that does not answer is asked again: each time it takes as long as a guarded call.
const MAX_SILENT: u32 = 2;

/// A helper that does not run this long after its creation belongs to a command that was killed; so does one that still
/// runs after an hour, and a volume or an image of that age.
const NOT_STARTED: Duration = Duration::from_secs(30);
const TOO_OLD: Duration = Duration::from_secs(3600);

/// An ID that no other command has, in whichever container it runs: a PID is not enough.
pub fn unique_id() -> String {
    // Its keys are random.
    format!("{:x}-{:016x}", now().as_secs(), RandomState::new().build_hasher().finish())
}

/// The age of what has this ID.
fn age(id: &str) -> Option<Duration> {
    let made = u64::from_str_radix(id.split('-').next()?, 16).ok()?;
    Some(now().saturating_sub(Duration::from_secs(made)))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What killed commands have left.
#[derive(Debug, Default)]
pub struct Left {
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    /// Images with a name.
    pub images: Vec<Image>,
}

/// Finds what killed commands have left.
pub async fn left(engine: &dyn Engine) -> Result<Left> {
    let label = [LABEL.to_owned()];
    let (containers, volumes, images) =
        tokio::try_join!(engine.containers(&label), engine.volumes(&label), engine.images())?;
    let now = now();
    Ok(Left {
        containers: containers.into_iter().filter(|container| is_stale(container, now)).collect(),
        volumes: volumes.into_iter().filter(|volume| is_old(&volume.labels)).collect(),
        images: images.into_iter().filter(|image| is_old(&image.labels)).collect(),
    })
}

/// Removes containers of commands that were killed. What cannot be removed stays for the next time.
pub async fn sweep(engine: &dyn Engine) {
    for container in engine.containers(&[LABEL.to_owned()]).await.unwrap_or_default() {
        if is_stale(&container, now()) {
            let _ = engine.remove_container(&container.id).await;
        }
    }
}

/// Removes containers, volumes and images of commands that were killed.
pub async fn sweep_all(engine: &dyn Engine) {
    sweep(engine).await;
    for volume in engine.volumes(&[LABEL.to_owned()]).await.unwrap_or_default() {
        if is_old(&volume.labels) {
            let _ = engine.remove_volume(&volume.name).await;
        }
    }
    for image in engine.images().await.unwrap_or_default().iter().filter(|image| is_old(&image.labels)) {
        for tag in &image.tags {
            let _ = engine.remove_image(tag).await;
        }
    }
}

/// Whether a volume or an image belongs to a command that was killed.
fn is_old(labels: &Labels) -> bool {
    let Some(id) = labels.get(LABEL) else { return false };
    match maker(labels) {
        Life::Lives => false,
        Life::Gone => true,
        Life::Unknown => age(id).is_some_and(|age| age > TOO_OLD),
    }
}

/// What is known of the process that made something.
fn maker(labels: &Labels) -> Life {
    labels.get(PROCESS_LABEL).map_or(Life::Unknown, |mark| process::life(mark))
}

fn is_stale(helper: &Container, now: Duration) -> bool {
    match maker(&helper.labels) {
        Life::Lives => return false,
        Life::Gone => return helper.labels.contains_key(LABEL),
        Life::Unknown => {}
    }
    let created = Duration::from_secs(u64::try_from(helper.created).unwrap_or_default());
    let limit = if helper.is_running() { TOO_OLD } else { NOT_STARTED };
    helper.labels.contains_key(LABEL) && now.saturating_sub(created) > limit
}

/// Helpers, and the tasks that create and remove them.
static HELPERS: LazyLock<TaskTracker> = LazyLock::new(|| {
    let helpers = TaskTracker::new();
    // A closed tracker still accepts tasks, and only a closed one can be waited for.
    helpers.close();
    helpers
});

/// Waits until every helper of this process is gone, including those of interrupted work.
pub async fn settle() {
    HELPERS.wait().await;
}

/// A container for one piece of work. Dropping this removes it, with its named volumes.
pub struct Helper {
    engine: SharedEngine,
    /// `None` once they are removed.
    things: Option<Things>,
    name: String,
    /// `settle` waits as long as this is held.
    _alive: TaskTrackerToken,
}

/// What a helper consists of in the engine.
#[derive(Clone)]
struct Things {
    /// The value of its label.
    id: String,
    has_volumes: bool,
    /// Name of its image, if that exists only for it.
    image: Option<String>,
}

impl Helper {
    /// Creates the container. It is not started. Its name should have a [`unique_id`].
    pub async fn create(engine: &SharedEngine, spec: ContainerSpec) -> Result<Self> {
        Self::of(engine, &spec, unique_id(), None).begin(spec).await
    }

    /// Creates the container from an image that exists only for it: the one in `archive`, with the name that `spec` gives
    /// and `id` as its label.
    pub async fn of_archive(
        engine: &SharedEngine,
        archive: ByteStream,
        id: String,
        spec: ContainerSpec,
    ) -> Result<Self> {
        let helper = Self::of(engine, &spec, id, Some(spec.image.clone()));
        engine.load_images(archive).await?;
        helper.begin(spec).await
    }

    fn of(engine: &SharedEngine, spec: &ContainerSpec, id: String, image: Option<String>) -> Self {
        let (engine, name) = (engine.clone(), spec.name.clone());
        let has_volumes = spec.mounts.iter().any(|mount| matches!(mount, Mount::Volume { .. }));
        Self { engine, things: Some(Things { id, has_volumes, image }), name, _alive: HELPERS.token() }
    }

    /// Creates the container in a task of its own: if this were dropped half-way, the removal could overtake the creation.
    async fn begin(self, mut spec: ContainerSpec) -> Result<Self> {
        if let Some(things) = &self.things {
            mark(&mut spec, &things.id);
        }
        let (sender, created) = oneshot::channel();
        HELPERS.spawn(async move {
            let result = self.engine.create_container(&spec).await;
            // If the caller is gone, or nothing was made, this drops the helper.
            drop(sender.send(result.map(|_| self)));
        });
        created.await.map_err(|source| {
            Error::new(Code::StepFailed, "a helper container ended without a result").with_cause(&source)
        })?
    }

    /// Name of the container.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes the container now, and reports a failure.
    pub async fn remove(mut self) -> Result<()> {
        let Some(things) = self.things.clone() else { return Ok(()) };
        remove(&*self.engine, &things).await?;
        self.things = None;
        Ok(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let Some(things) = self.things.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let engine = self.engine.clone();
        HELPERS.spawn_on(
            async move {
                let mut silent = 0;
                for _ in 0..REMOVAL.1 {
                    // An attached one ends with its input, and then the engine removes it too.
                    let removed = remove(&*engine, &things).await;
                    if removed.is_ok() {
                        return;
                    }
                    silent += u32::from(removed.is_err_and(|error| error.code() == Code::EngineUnreachable));
                    if silent == MAX_SILENT {
                        return;
                    }
                    tokio::time::sleep(REMOVAL.0).await;
                }
            },
            &runtime,
        );
    }
}

/// Labels a container and its volumes.
fn mark(spec: &mut ContainerSpec, id: &str) {
    let label = || [(LABEL.to_owned(), id.to_owned()), (PROCESS_LABEL.to_owned(), process::own())];
    spec.labels.extend(label());
    for mount in &mut spec.mounts {
        match mount {
            Mount::Volume { labels, .. } => labels.extend(label()),
            Mount::Bind { .. } | Mount::Directory { .. } => {}
        }
    }
}

/// Removes what has the helper's label, whoever has its name: as much as possible, and returns the first failure.
async fn remove(engine: &dyn Engine, things: &Things) -> Result<()> {
    let labels = [format!("{LABEL}={}", things.id)];
    let mut result = Ok(());
    for container in engine.containers(&labels).await? {
        result = result.and(engine.remove_container(&container.id).await);
    }
    let volumes = if things.has_volumes { engine.volumes(&labels).await? } else { Vec::new() };
    for volume in volumes {
        result = result.and(engine.remove_volume(&volume.name).await);
    }
    match &things.image {
        Some(image) => result.and(engine.remove_image(image).await),
        None => result,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::State;
    use crate::error::Reason;

    fn spec() -> ContainerSpec {
        let mount = Mount::Volume { name: "data".to_owned(), target: "/data".to_owned(), labels: Labels::new() };
        ContainerSpec { mounts: vec![mount], ..ContainerSpec::new("helper", "app") }
    }

    #[tokio::test]
    async fn a_helper_is_removed_by_hand_or_by_itself() {
        let fake = Arc::new(FakeEngine::new(&["app"]));
        let shared: SharedEngine = fake.clone();
        let helper = Helper::create(&shared, spec()).await.unwrap();
        assert_eq!(fake.left(), ["container helper", "volume data"]);
        helper.remove().await.unwrap();
        assert_eq!(fake.left(), [""; 0]);
        drop(Helper::create(&shared, spec()).await.unwrap());
        settle().await;
        assert_eq!(fake.left(), [""; 0]);
    }

    #[tokio::test]
    async fn a_helper_whose_creation_failed_or_was_dropped_is_removed() {
        for call in 1..4 {
            let fake = Arc::new(FakeEngine::new(&["app"]).losing_answer_at(call));
            let shared: SharedEngine = fake.clone();
            if let Ok(helper) = Helper::create(&shared, spec()).await {
                let _ = helper.remove().await;
            }
            settle().await;
            assert_eq!(fake.left(), [""; 0], "call {call}");
        }
        let fake = Arc::new(FakeEngine::new(&["app"]));
        let shared: SharedEngine = fake.clone();
        tokio::select! {
            biased;
            _ = Helper::create(&shared, spec()) => unreachable!("its task was not polled yet"),
            () = std::future::ready(()) => {}
        }
        settle().await;
        assert_eq!(fake.transcript()[0], "create_container helper");
        assert_eq!(fake.left(), [""; 0]);
    }

    #[tokio::test]
    async fn someone_elses_container_stays() {
        let fake = Arc::new(FakeEngine::new(&["app"]));
        fake.create_container(&ContainerSpec::new("helper", "app")).await.unwrap();
        let shared: SharedEngine = fake.clone();
        let error = Helper::create(&shared, spec()).await.err().unwrap();
        assert_eq!(error.reason(), Some(Reason::NameTaken));
        settle().await;
        assert_eq!(fake.left(), ["container helper"]);
    }

    #[tokio::test]
    async fn a_container_of_the_name_stays_whatever_fails() {
        for call in 2..6 {
            let fake = Arc::new(FakeEngine::new(&["app"]).failing_at(call));
            let mount = Mount::Volume { name: "data".to_owned(), target: "/a".to_owned(), labels: Labels::new() };
            let mine = ContainerSpec { mounts: vec![mount], ..ContainerSpec::new("helper", "app") };
            fake.create_container(&mine).await.unwrap();
            let shared: SharedEngine = fake.clone();
            assert!(Helper::create(&shared, spec()).await.is_err());
            settle().await;
            assert_eq!(fake.left(), ["container helper", "volume data"], "call {call}");
        }
    }

    #[tokio::test]
    async fn what_a_killed_command_left_is_recognized_by_its_age() {
        let fake = FakeEngine::new(&["app"]);
        let mut old = spec();
        let others = |labels: &mut Labels| labels.retain(|key, _| key != PROCESS_LABEL);
        mark(&mut old, &format!("{:x}-1", now().as_secs() - 2 * TOO_OLD.as_secs()));
        // Of a process that is not known here.
        others(&mut old.labels);
        for mount in &mut old.mounts {
            if let Mount::Volume { labels, .. } = mount {
                others(labels);
            }
        }
        fake.create_container(&old).await.unwrap();
        let mut helper = fake.containers(&[LABEL.to_owned()]).await.unwrap().remove(0);
        let now = Duration::from_secs(10_000);
        let mut stale = |created: i64, state: State| {
            helper = Container { state, created, ..helper.clone() };
            is_stale(&helper, now)
        };
        assert!(stale(9_900, State::Created) && !stale(9_990, State::Created));
        assert!(stale(6_000, State::Running) && !stale(9_000, State::Running));
        let made_by = |mark: &str| Container {
            labels: Labels::from([(LABEL.to_owned(), "1".to_owned()), (PROCESS_LABEL.to_owned(), mark.to_owned())]),
            created: 0,
            ..helper.clone()
        };
        let own = process::own();
        assert!(!is_stale(&made_by(&own), now));
        let (pid, place) = (own.split('-').next().unwrap(), own.rsplit('-').next().unwrap());
        assert!(is_stale(&Container { created: 10_000, ..made_by(&format!("{pid}-1-{place}")) }, now));
        assert!(!is_stale(&Container { labels: Labels::new(), created: 0, ..helper.clone() }, now));
        // The volume of an old helper that is gone goes too; one of the user's stays.
        fake.remove_container("helper").await.unwrap();
        let mine = Mount::Volume { name: "mine".to_owned(), target: "/a".to_owned(), labels: Labels::new() };
        fake.create_container(&ContainerSpec { mounts: vec![mine], ..ContainerSpec::new("mine", "app") })
            .await
            .unwrap();
        sweep_all(&fake).await;
        assert_eq!(fake.left(), ["container mine", "volume mine"]);
    }

    #[test]
    fn ids_differ_and_know_their_age() {
        assert_ne!(unique_id(), unique_id());
        assert!(age(&unique_id()).unwrap() < Duration::from_secs(60));
        assert_eq!(age("x"), None);
    }
}
