//! Removes clusters whose time is over, whoever made them, before a command does what it is for.

use time::OffsetDateTime;

use crate::cluster::leads::{self, Leads};
use crate::cluster::lifecycle::delete;
use crate::cluster::lifecycle::lifetime::{self, Kept, Over};
use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::error::Result;
use crate::host;
use crate::ui::Ui;

/// Removes what is over. A failure is told, and keeps no command from its work: the next one tries again.
pub(super) async fn sweep(ui: &Ui, engine: &SharedEngine) {
    // An engine that does not answer is reported by the command itself.
    let Ok(over) = lifetime::over(&**engine, OffsetDateTime::now_utc()).await else { return };
    for over in &over {
        let (name, expiry) = (&over.cluster.name, over.expiry);
        match &over.kept {
            Some(Kept::Stopping) => {}
            Some(cause) => {
                ui.warn(format!("cluster `{name}` expired at {expiry}, but {cause}"));
            }
            None => match remove(ui, engine, over).await {
                Ok(true) => ui.note(format!("Removed cluster `{name}`, which expired at {expiry}")),
                Ok(false) => {}
                Err(error) => {
                    ui.warn(format!("cluster `{name}`, which expired at {expiry}, was not removed: {error}"));
                }
            },
        }
    }
}

/// Removes a cluster with all that leads to it. Returns whether there was anything: another command may have been faster.
pub(super) async fn remove(ui: &Ui, engine: &SharedEngine, over: &Over) -> Result<bool> {
    let Some(scope) = over.scope() else { return Ok(false) };
    let name = &over.cluster.name;
    let leads = leads::find(&**engine, name).await;
    let removed = delete::delete(engine, &scope).await?;
    if removed.is_empty() {
        return Ok(false);
    }
    ui.warn_of(host::kubectl::remove_kubeconfig(name.as_str()));
    clear(ui, name, leads.as_ref()).await;
    Ok(true)
}

/// Removes the entries of a cluster from the kubeconfigs that lead to it; warns of those that stay.
pub(super) async fn clear(ui: &Ui, name: &ClusterName, leads: Option<&Leads>) {
    let Some(leads) = leads else { return };
    for (file, error) in leads.remove().await {
        let what = format!("kubeconfig `{}` still has an entry of cluster `{name}`", file.display());
        ui.warn(format!("{what}: {}", error.cause().unwrap_or(error.message())));
    }
}
