//! One run of a command that makes or changes something in a cluster.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::engine::SharedEngine;
use crate::ui::Ui;

/// What every step of a run needs; cheap to clone.
#[derive(Clone)]
pub struct Run {
    /// The engine that the nodes are on.
    pub engine: SharedEngine,
    pub ui: Ui,
    /// Labels what this run makes, so that it can be removed.
    pub id: String,
    /// When waiting ends.
    pub deadline: Instant,
}

impl Run {
    /// A run with this ID whose waiting ends after `wait`.
    pub fn new(engine: &SharedEngine, ui: &Ui, id: impl Into<String>, wait: Duration) -> Self {
        Self { engine: engine.clone(), ui: ui.clone(), id: id.into(), deadline: Instant::now() + wait }
    }

    /// The same run, with a deadline that is `wait` from now.
    #[must_use]
    pub fn within(&self, wait: Duration) -> Self {
        Self { deadline: Instant::now() + wait, ..self.clone() }
    }
}

/// An ID that no other run has: time and process.
pub fn new_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}
