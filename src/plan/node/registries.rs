//! How nodes reach registries: containerd's `hosts.toml` for each that the configuration lists, and for the local one. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::config::Registry;
use crate::plan::facts;
use crate::plan::files::FileTree;
use crate::plan::node::containerd::CERTS;

/// Adds the files by which containerd finds registries. `authorities` are CA certificates by the host of the registry.
pub(crate) fn node_files(files: &mut FileTree, registries: &[Registry], authorities: &BTreeMap<String, String>) {
    for registry in registries {
        // `_default` applies to all hosts without a directory of their own.
        let name = if registry.host == Registry::ALL { "_default" } else { &registry.host };
        let directory = format!("{CERTS}/{name}");
        let authority = authorities.get(&registry.host);
        if let Some(certificates) = authority {
            files.text(format!("{directory}/ca.crt"), certificates);
        }
        let text = hosts(registry, authority.is_some());
        if !text.is_empty() {
            files.text(format!("{directory}/hosts.toml"), text);
        }
    }
}

/// The hosts of registries for which nodes get credentials.
pub fn logins(registries: &[Registry]) -> BTreeSet<String> {
    registries.iter().filter(|registry| registry.login).map(|registry| registry.host.clone()).collect()
}

/// The directory of a node in which containerd finds a local registry.
pub fn local_directory(registry: &facts::Registry) -> String {
    format!("{CERTS}/{}", registry.host())
}

/// Adds the files by which a node finds a local registry; containerd reads them with every pull.
pub fn local_files(files: &mut FileTree, registry: &facts::Registry) {
    files.text(
        format!("{}/hosts.toml", local_directory(registry)),
        format!("# In a node too, {} is this container.\nserver = \"http://{}\"\n", registry.host(), registry.inside()),
    );
}

/// A `hosts.toml`. Settings outside of `[host]` apply to the registry itself.
fn hosts(registry: &Registry, authority: bool) -> String {
    let trust = |url: &str| match (authority, registry.insecure) {
        _ if url.starts_with("http:") => "",
        (_, true) => "skip_verify = true\n",
        (true, false) => "ca = \"ca.crt\"\n",
        (false, false) => "",
    };
    let mut text = String::new();
    if registry.insecure && registry.host != Registry::ALL {
        // With `skip_verify` containerd tries TLS first, as Docker does with insecure registries.
        let _ = writeln!(text, "server = \"http://{}\"", server(&registry.host));
    }
    text.push_str(trust(&registry.host));
    for mirror in &registry.mirrors {
        let _ = write!(text, "\n[host.\"{mirror}\"]\n");
        // A mirror serves images and never receives any.
        text.push_str("capabilities = [\"pull\", \"resolve\"]\n");
        text.push_str(trust(mirror));
    }
    text.trim_start().to_owned()
}

/// The host that serves a registry; Docker Hub's differs from its name.
fn server(host: &str) -> &str {
    if host == "docker.io" { "registry-1.docker.io" } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::files::File;

    fn registry(host: &str) -> Registry {
        Registry::new(host)
    }

    fn written(registry: &Registry, authority: Option<&str>) -> Vec<(String, String)> {
        let mut files = FileTree::default();
        let authorities = authority.map(|text| (registry.host.clone(), text.to_owned())).into_iter().collect();
        node_files(&mut files, std::slice::from_ref(registry), &authorities);
        let text = |file: &File| match file {
            File::Text { content, .. } => content.clone(),
            other => panic!("{other:?}"),
        };
        files.iter().map(|(path, file)| (path.to_owned(), text(file))).collect()
    }

    #[test]
    fn mirrors_are_asked_in_their_order_with_the_same_trust() {
        let mut docker = registry("docker.io");
        docker.mirrors = vec!["https://one.example".to_owned(), "http://two.example:5000".to_owned()];
        let files = written(&docker, Some("PEM"));
        assert_eq!(files[0], ("/etc/containerd/certs.d/docker.io/ca.crt".to_owned(), "PEM".to_owned()));
        assert_eq!(
            files[1].1,
            "ca = \"ca.crt\"\n\n[host.\"https://one.example\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = \"ca.crt\"\n\n\
             [host.\"http://two.example:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
    }

    #[test]
    fn an_insecure_registry_needs_no_tls() {
        let insecure = Registry { insecure: true, ..registry("old.example:5000") };
        let files = written(&insecure, None);
        assert_eq!(files[0].0, "/etc/containerd/certs.d/old.example:5000/hosts.toml");
        assert_eq!(files[0].1, "server = \"http://old.example:5000\"\nskip_verify = true\n");
    }

    #[test]
    fn a_local_registry_has_one_name_on_the_host_and_in_a_node() {
        let mut files = FileTree::default();
        local_files(&mut files, &facts::Registry { name: "coracle-registry".to_owned(), port: 5001 });
        let (path, file) = files.iter().next().unwrap();
        assert_eq!(path, "/etc/containerd/certs.d/localhost:5001/hosts.toml");
        let File::Text { content, .. } = file else { panic!("{file:?}") };
        assert!(content.contains("server = \"http://coracle-registry.coracle.internal:5000\""), "{content}");
    }

    #[test]
    fn all_others_are_the_default() {
        let mut all = registry("*");
        all.mirrors = vec!["http://cache.example".to_owned()];
        assert_eq!(written(&all, None)[0].0, "/etc/containerd/certs.d/_default/hosts.toml");
        assert!(written(&registry("plain.example"), None).is_empty(), "it needs no settings");
    }
}
