//! How an API server is reached, and by whom.

use std::fmt;

use crate::plan::pki::Pair;

/// What the user's kubeconfig and coracle itself connect with to a new cluster.
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

impl Access {
    /// The credentials of the administrator.
    pub fn admin(&self) -> Credentials {
        self.credentials(&self.admin)
    }

    /// The credentials of the member of `system:masters`.
    pub fn super_admin(&self) -> Credentials {
        self.credentials(&self.super_admin)
    }

    fn credentials(&self, pair: &Pair) -> Credentials {
        Credentials {
            server: self.server.clone(),
            authority: self.authority.clone(),
            certificate: pair.certificate.clone(),
            key: pair.key.clone(),
        }
    }
}

/// What one client of an API server needs.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `https://…`.
    pub server: String,
    /// CA as PEM.
    pub authority: String,
    /// The client's certificate as PEM.
    pub certificate: String,
    /// Its key as PEM.
    pub key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key must not end up in a log.
        f.debug_struct("Credentials").field("server", &self.server).finish_non_exhaustive()
    }
}
