//! The kubelet's credentials for registries: a credential provider that prints a file in the node's memory. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

use crate::error::Result;
use crate::plan::files::FileTree;
use crate::yaml;

/// The file that the provider prints. It is in memory, so that no secret is on a disk, and is lost when the node restarts.
pub const ANSWER: &str = "/run/coracle/credentials.json";
/// The hosts for which the nodes got credentials, one per line.
pub const HOSTS: &str = "/etc/coracle/logins";
/// The kubelet's configuration of the provider.
pub const CONFIG: &str = "/etc/coracle/credential-provider.yaml";
/// The file with the kubelet's flags.
pub const FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";

const DIRECTORY: &str = "/usr/local/lib/coracle-credentials";
const PROVIDER: &str = "coracle-credentials";
const API: &str = "credentialprovider.kubelet.k8s.io/v1";
/// The provider is asked for hosts whose names have at most this many parts; those of Amazon's registries have six.
const MAX_PARTS: usize = 7;

/// A password or a token, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Credentials for a registry.
///
/// The kubelet hands them to containerd, which offers them to every host that it asks for an image of the registry. So
/// nodes ask only the hosts that they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The prefix of its images' names.
    pub host: String,
    /// User name.
    pub user: String,
    /// Password or token.
    pub secret: Secret,
    /// The hosts that they belong to: the registry or mirrors of it, by [`registries::authority`](super::registries).
    pub hosts: BTreeSet<String>,
}

/// The kubelet's flags.
pub fn flags() -> [String; 2] {
    [format!("--image-credential-provider-config={CONFIG}"), format!("--image-credential-provider-bin-dir={DIRECTORY}")]
}

/// Adds the files on a node's disk, none of which is secret.
pub fn node_files(files: &mut FileTree, hosts: &BTreeSet<String>) -> Result<()> {
    if hosts.is_empty() {
        return Ok(());
    }
    let none = json!({
        "apiVersion": API, "kind": "CredentialProviderResponse", "cacheKeyType": "Global", "cacheDuration": "0s", "auth": {},
    });
    files.text(HOSTS, hosts.iter().flat_map(|host| [host.as_str(), "\n"]).collect::<String>());
    files.text(CONFIG, configuration(hosts)?);
    files.program(
        format!("{DIRECTORY}/{PROVIDER}"),
        format!(
            "#!/bin/sh\n# The kubelet runs this before it pulls an image.\ncat {ANSWER} 2>/dev/null || echo '{none}'\n"
        ),
    );
    Ok(())
}

/// The kubelet's configuration of the provider.
///
/// The kubelet reads it when it starts, and a pattern without a port matches only hosts without a port. So from the first
/// login on it contains patterns for all of these, and a kubelet has to restart only for a new port.
pub fn configuration(hosts: &BTreeSet<String>) -> Result<String> {
    let patterns = (1..=MAX_PARTS).map(|parts| vec!["*"; parts].join("."));
    let ports = hosts.iter().filter(|host| host.contains(':')).cloned();
    yaml::to_string(&json!({
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [{
            "name": PROVIDER,
            "apiVersion": API,
            "defaultCacheDuration": "0s",
            "matchImages": patterns.chain(ports).collect::<Vec<_>>(),
        }],
    }))
}

/// What the provider prints: the previous credentials, if any, and the new ones. The kubelet uses those that match.
pub fn answer(before: Option<&Value>, logins: &[Login]) -> String {
    let before = before.and_then(|before| before["auth"].as_object()).cloned().unwrap_or_default();
    let mut all: BTreeMap<String, Value> = before.into_iter().collect();
    for login in logins {
        all.insert(login.host.clone(), json!({"username": login.user, "password": login.secret.0}));
    }
    json!({
        "apiVersion": API,
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Global",
        // The kubelet asks each time, so that a new login takes effect at once.
        "cacheDuration": "0s",
        "auth": all,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::files::File;

    fn login(host: &str, secret: &str) -> Login {
        Login { host: host.to_owned(), user: "me".to_owned(), secret: Secret::new(secret), hosts: BTreeSet::new() }
    }

    #[test]
    fn a_secret_is_in_the_answer_only() {
        let login = login("a.example", "hunter2");
        assert!(!format!("{login:?}").contains("hunter2"));
        let answer = answer(None, &[login]);
        assert!(answer.contains("hunter2"));
        let mut files = FileTree::default();
        node_files(&mut files, &BTreeSet::from(["a.example".to_owned()])).unwrap();
        assert_eq!(files.iter().count(), 3);
        for (path, file) in files.iter() {
            let File::Text { content, mode } = file else { panic!("{path}") };
            assert!(!content.contains("hunter2"));
            assert_eq!(*mode == 0o755, path.ends_with("/coracle-credentials"), "{path}");
        }
    }

    #[test]
    fn a_new_login_keeps_the_others() {
        let first = answer(None, &[login("a.example", "1"), login("b.example", "2")]);
        let second = answer(Some(&serde_json::from_str(&first).unwrap()), &[login("b.example", "3")]);
        let second: Value = serde_json::from_str(&second).unwrap();
        assert_eq!(second["auth"]["a.example"]["password"], "1");
        assert_eq!(second["auth"]["b.example"]["password"], "3");
    }

    #[test]
    fn only_a_port_changes_the_kubelets_configuration() {
        let of = |hosts: &[&str]| configuration(&hosts.iter().map(|host| (*host).to_owned()).collect()).unwrap();
        assert_eq!(of(&["docker.io"]), of(&["docker.io", "123.dkr.ecr.eu-west-1.amazonaws.com"]));
        assert_ne!(of(&["docker.io"]), of(&["docker.io", "a.example:5000"]));
    }

    #[test]
    fn without_a_login_a_node_gets_nothing() {
        let mut files = FileTree::default();
        node_files(&mut files, &BTreeSet::new()).unwrap();
        assert_eq!(files.iter().count(), 0);
    }
}
