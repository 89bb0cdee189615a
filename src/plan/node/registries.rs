//! How nodes reach registries: containerd's `hosts.toml` for each that the configuration lists, and for the local one. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::config::Registry;
use crate::plan::facts;
use crate::plan::files::FileTree;
use crate::plan::node::containerd::CERTS;

/// Adds the files by which containerd finds registries. `authorities` are CA certificates, and `login_hosts` the hosts that
/// credentials belong to, by the host of the registry.
pub(crate) fn node_files(
    files: &mut FileTree,
    registries: &[Registry],
    authorities: &BTreeMap<String, String>,
    login_hosts: &BTreeMap<String, BTreeSet<String>>,
) {
    for registry in registries {
        let directory = directory(&registry.host);
        let authority = authorities.get(&registry.host);
        if let Some(certificates) = authority {
            files.text(format!("{directory}/ca.crt"), certificates);
        }
        let text = hosts(registry, authority.is_some(), login_hosts.get(&registry.host));
        if !text.is_empty() {
            files.text(format!("{directory}/hosts.toml"), text);
        }
    }
}

/// Adds the file that keeps nodes from asking a host for images of the registry to which its credentials do not belong.
pub fn login_files(files: &mut FileTree, registry: &Registry, login_hosts: &BTreeSet<String>) {
    let text = hosts(registry, registry.ca_file.is_some(), Some(login_hosts));
    files.text(format!("{}/hosts.toml", directory(&registry.host)), text);
}

fn directory(host: &str) -> String {
    // `_default` applies to all hosts without a directory of their own.
    format!("{CERTS}/{}", if host == Registry::ALL { "_default" } else { host })
}

/// The host and port of a registry or of the URL of a mirror, the same for each way to write it.
pub fn authority(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    let host = rest.split('/').next().unwrap_or(rest).to_lowercase();
    let host = host.rsplit_once('@').map_or(host.as_str(), |(_, host)| host);
    if ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host) {
        return "docker.io".to_owned();
    }
    let port = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map(|(_, port)| port);
    match (scheme, port) {
        ("http", None) => format!("{host}:80"),
        ("https", Some("443")) => host.trim_end_matches(":443").to_owned(),
        _ => host.to_owned(),
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

/// A `hosts.toml`. Settings outside of `[host]` apply to the registry itself. With `login_hosts`, no other host is in it.
fn hosts(registry: &Registry, authority: bool, login_hosts: Option<&BTreeSet<String>>) -> String {
    let trust = |url: &str| match (authority, registry.insecure) {
        _ if url.starts_with("http:") => "",
        (_, true) => "skip_verify = true\n",
        (true, false) => "ca = \"ca.crt\"\n",
        (false, false) => "",
    };
    let asked = |host: &str| login_hosts.is_none_or(|hosts| hosts.contains(&self::authority(host)));
    let mut mirrors: Vec<&str> = registry.mirrors.iter().map(String::as_str).filter(|mirror| asked(mirror)).collect();
    // A mirror serves images and never receives any.
    let of_mirror = "capabilities = [\"pull\", \"resolve\"]\n";
    let mut text = String::new();
    let last = if asked(&registry.host) { None } else { mirrors.pop() };
    if let Some(mirror) = last {
        let _ = write!(text, "server = \"{mirror}\"\n{of_mirror}");
        text.push_str(trust(mirror));
    } else {
        if registry.insecure && registry.host != Registry::ALL {
            // With `skip_verify` containerd tries TLS first, as Docker does with insecure registries.
            let _ = writeln!(text, "server = \"http://{}\"", server(&registry.host));
        } else if login_hosts.is_some() {
            // Without it, the mirrors of `*` would be asked.
            let _ = writeln!(text, "server = \"https://{}\"", server(&registry.host));
        }
        text.push_str(trust(&registry.host));
    }
    for mirror in mirrors {
        let _ = write!(text, "\n[host.\"{mirror}\"]\n{of_mirror}");
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
        node_files(&mut files, std::slice::from_ref(registry), &authorities, &BTreeMap::new());
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
    fn credentials_are_offered_only_to_the_hosts_they_belong_to() {
        let mirrors = ["https://m.example:5000/hub", "http://10.0.0.5:5000", "https://a.example:443"];
        let registry = Registry { mirrors: mirrors.map(str::to_owned).to_vec(), login: true, ..registry("a.example") };
        let text = |hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            super::hosts(&registry, false, Some(&hosts))
        };
        let pull = "capabilities = [\"pull\", \"resolve\"]\n";
        assert_eq!(
            text(&["a.example"]),
            format!("server = \"https://a.example\"\n\n[host.\"https://a.example:443\"]\n{pull}"),
            "one registry under two names"
        );
        assert_eq!(text(&["m.example:5000"]), format!("server = \"https://m.example:5000/hub\"\n{pull}"));
        // Mirrors of `*` would be asked for a registry without a file of its own.
        let alone = Registry { login: true, ..super::Registry::new("docker.io") };
        let only = BTreeSet::from(["docker.io".to_owned()]);
        assert_eq!(super::hosts(&alone, false, Some(&only)), "server = \"https://registry-1.docker.io\"\n");
    }

    #[test]
    fn a_host_is_the_same_however_it_is_written() {
        for (text, same) in [
            ("https://A.example:443/v2", "a.example"),
            ("a.example", "a.example"),
            ("http://a.example", "a.example:80"),
            ("a.example:5000", "a.example:5000"),
            ("https://registry-1.docker.io", "docker.io"),
            ("https://[::1]:443/x", "[::1]"),
            ("https://[::1]", "[::1]"),
        ] {
            assert_eq!(authority(text), same, "{text}");
        }
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
