//! What the engine remembers of the past.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::query_parameters as query;
use futures_util::{StreamExt, TryStreamExt};

use crate::engine::docker::failure::failed;
use crate::error::Result;

/// Exit code of a container's last end.
pub(super) async fn last_exit(client: &bollard::Docker, container: &str) -> Result<Option<i64>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let filters = HashMap::from([("container", vec![container]), ("event", vec!["die"])]);
    // With an end in the past, the engine sends what it remembers and closes.
    let past = query::EventsOptionsBuilder::default().since("1").until(&now.to_string()).filters(&filters).build();
    let mut events = client.events(Some(past)).boxed();
    let (mut last, what) = (None, format!("cannot read the events of container `{container}`"));
    while let Some(event) = events.try_next().await.map_err(|source| failed(&what, &source))? {
        let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
        last = attributes.get("exitCode").and_then(|code| code.parse().ok()).or(last);
    }
    Ok(last)
}
