//! Nodes that stopped because the time of their cluster was over.

use time::OffsetDateTime;

use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::engine::spec::Inspected;
use crate::error::{Code, Error};
use crate::plan::labels;
use crate::plan::lifetime::{self, EXPIRES};

/// What is said of such a node. `None`: it stopped for another reason.
pub(super) async fn find(engine: &dyn Engine, node: &str, stopped: &Inspected) -> Option<Error> {
    let name = stopped.labels.get(labels::CLUSTER)?;
    stopped.labels.get(labels::EXPIRES)?;
    let text = read_file(engine, node, EXPIRES).await.ok().flatten()?;
    let expiry = lifetime::read(&String::from_utf8_lossy(&text)).ok().flatten()?;
    if stopped.exit_code != 0 || !expiry.is_over(OffsetDateTime::now_utc()) {
        return None;
    }
    let error = Error::new(Code::NodeExited, "the node stopped").on_node(node);
    Some(error.because(format!("the cluster expired at {expiry}")).hint(format!(
        "give it more time: `--ttl` when it is created, or `coracle extend {name} --ttl 2h` while it exists"
    )))
}
