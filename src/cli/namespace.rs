//! The namespace that a command means where none is named.

use crate::cluster::found::Cluster;
use crate::kubeconfig::{self, Location};

/// The namespace of a cluster's kubeconfig context, or `default`.
pub(super) fn of_context(cluster: &Cluster) -> String {
    let variable = std::env::var_os("KUBECONFIG");
    let location = Location::new(None, variable.as_deref(), dirs::home_dir().as_deref()).ok();
    let found = location.and_then(|location| kubeconfig::namespace(&location, &cluster.context()));
    found.unwrap_or_else(|| "default".to_owned())
}
