//! The endpoint of a new cluster's API server, and credentials for it.

use crate::plan::pki::Pair;

/// What the user's kubeconfig and coracle itself use to connect.
#[derive(Debug, Clone)]
pub struct Access {
    /// `https://…` on the host.
    pub server: String,
    /// CA as PEM.
    pub authority: String,
    /// The administrator's certificate, of the group `kubeadm:cluster-admins`.
    pub admin: Pair,
    /// A certificate of `system:masters`, which works before the RBAC rules exist.
    pub super_admin: Pair,
}
