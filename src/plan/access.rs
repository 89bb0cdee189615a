//! How the API server of a new cluster is reached.

use crate::plan::pki::Pair;

/// What the user's kubeconfig and coracle itself connect with.
#[derive(Debug, Clone)]
pub struct Access {
    /// `https://…` on the host.
    pub server: String,
    /// CA as PEM.
    pub authority: String,
    /// The administrator's certificate: member of `kubeadm:cluster-admins`.
    pub admin: Pair,
    /// Member of `system:masters`, which works before RBAC is there.
    pub super_admin: Pair,
}
