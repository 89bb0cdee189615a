//! A container that lives as long as a value: created, used, and removed even if its use fails or is interrupted.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::engine::conversation::ByteStream;
use crate::engine::spec::{ContainerSpec, Mount};
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Reason, Result};

/// The interval and the number of attempts to remove a dropped helper.
const REMOVAL: (Duration, u32) = (Duration::from_millis(20), 100);
/// How often an engine that does not answer is asked again: each time it takes as long as a guarded call.
const MAX_SILENT: u32 = 2;

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
    container: String,
    volumes: Vec<String>,
    image: Option<String>,
}

impl Helper {
    /// Creates the container. It is not started.
    pub async fn create(engine: &SharedEngine, spec: ContainerSpec) -> Result<Self> {
        Self::of(engine, &spec, None).begin(spec).await
    }

    /// Creates the container from an image that exists only for it: the one in `archive`, with the name that `spec` gives.
    pub async fn of_archive(engine: &SharedEngine, archive: ByteStream, spec: ContainerSpec) -> Result<Self> {
        let helper = Self::of(engine, &spec, Some(spec.image.clone()));
        engine.load_images(archive).await?;
        helper.begin(spec).await
    }

    fn of(engine: &SharedEngine, spec: &ContainerSpec, image: Option<String>) -> Self {
        let volume = |mount: &Mount| match mount {
            Mount::Volume { name, .. } => Some(name.clone()),
            Mount::Bind { .. } | Mount::Directory { .. } => None,
        };
        let volumes = spec.mounts.iter().filter_map(volume).collect();
        let things = Things { container: spec.name.clone(), volumes, image };
        let (engine, name) = (engine.clone(), spec.name.clone());
        Self { engine, things: Some(things), name, _alive: HELPERS.token() }
    }

    /// Creates the container in a task of its own: if this were dropped half-way, the removal could overtake the creation.
    async fn begin(self, spec: ContainerSpec) -> Result<Self> {
        let (sender, created) = oneshot::channel();
        HELPERS.spawn(async move {
            let result = self.engine.create_container(&spec).await;
            // If the caller is gone, this drops the helper.
            drop(sender.send(match result {
                Ok(_) => Ok(self),
                Err(error) if error.reason() == Some(Reason::NameTaken) => {
                    self.forget();
                    Err(error)
                }
                Err(error) => Err(error),
            }));
        });
        created
            .await
            .map_err(|source| Error::new(Code::StepFailed, "a helper container was lost").with_cause(&source))?
    }

    /// Leaves the container to the program that has its name.
    fn forget(mut self) {
        self.things = None;
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
                    if removed.is_ok() && matches!(engine.inspect(&things.container).await, Ok(None)) {
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

/// Removes as much as possible and returns the first failure.
async fn remove(engine: &dyn Engine, things: &Things) -> Result<()> {
    let mut result = engine.remove_container(&things.container).await;
    if result.as_ref().is_err_and(|error| error.code() == Code::EngineUnreachable) {
        return result;
    }
    for volume in &things.volumes {
        result = result.and(engine.remove_volume(volume).await);
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
    use crate::engine::spec::Labels;

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
}
