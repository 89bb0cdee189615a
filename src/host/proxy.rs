//! The proxy settings for nodes: those of the environment, else those of the Docker client.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use crate::engine::address::{Address, Environment};
use crate::host::docker_config::DockerConfig;
use crate::host::ports::{self, Listener};
use crate::plan::ProxySettings;
use crate::plan::layout::HOST_NAME;
use crate::plan::node::proxy::without_credentials;

/// The proxy settings for nodes of this engine, and the Docker client's configuration if they come from there.
pub(crate) fn settings(environment: &Environment, address: &Address) -> (ProxySettings, Option<PathBuf>) {
    let own = from_variables(|name| std::env::var(name).ok());
    if !own.is_empty() {
        return (own, None);
    }
    let file = environment.docker_config.as_ref().map(|directory| directory.join("config.json"));
    let found = file.and_then(|file| Some((from_client(&file, address, environment.docker_host.as_deref())?, file)));
    found.map_or((own, None), |(settings, file)| (settings, Some(file)))
}

/// The settings as nodes can use them, and warnings about those that they cannot use.
///
/// A proxy on this machine's loopback is not in a node: if it listens on the machine's other addresses too, nodes reach it by
/// the name of the host, otherwise not at all. `families` are those of the cluster, true for IPv4; `here` is whether the
/// engine runs on this machine.
pub(crate) fn for_nodes(settings: &ProxySettings, families: &[bool], here: bool) -> (ProxySettings, Vec<String>) {
    let listeners = if here { ports::listeners() } else { Vec::new() };
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let mut warnings: Vec<String> = Vec::new();
    let mut usable = |url: &Option<String>| {
        let url = url.as_ref()?;
        if let Some(flaw) = flaw(url) {
            warnings.push(format!("the nodes get the proxy `{}`, but {flaw}", without_credentials(url)));
        }
        let Some((host, port)) = on_this_machine(url, &name) else { return Some(url.clone()) };
        if families.iter().any(|v4| is_open(&listeners, port, *v4)) {
            return Some(with_host(url, host));
        }
        let (shown, why) = (without_credentials(url), unusable(&listeners, port, here));
        let warning = format!("the nodes do not get the proxy `{shown}`: {why}");
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
        None
    };
    let (http, https) = (usable(&settings.http), usable(&settings.https));
    (ProxySettings { http, https, none: settings.none.clone() }, warnings)
}

/// Why programs would not take the URL of a proxy, if they would not.
fn flaw(url: &str) -> Option<&'static str> {
    if url.contains(char::is_whitespace) {
        return Some("it contains a blank, with which programs in Go refuse it");
    }
    let (_, address) = scheme_and_address(url);
    let port = address.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
    if address.is_empty() {
        return Some("it has no host");
    }
    port.is_some_and(|port| !port.is_empty() && port.parse::<u16>().is_err()).then_some("its port is not one")
}

fn unusable(listeners: &[Listener], port: u16, here: bool) -> String {
    if !here {
        return "it is on this machine, and the engine is on another one".to_owned();
    }
    if listeners.iter().all(|listener| listener.address.port() != port) {
        return format!("nothing listens on port {port} of this host");
    }
    format!(
        "it listens on addresses of this host that nodes cannot reach; to use it, let it listen on all (`0.0.0.0:{port}`)"
    )
}

/// Whether a program listens on all addresses of this host of a family.
fn is_open(listeners: &[Listener], port: u16, v4: bool) -> bool {
    listeners.iter().map(|listener| listener.address).filter(|address| address.port() == port).any(|address| {
        // What listens on all addresses of IPv6 listens on those of IPv4 too, unless it says otherwise.
        address.ip().is_unspecified() && (address.is_ipv6() || v4)
    })
}

/// The scheme of a URL, and its host with the port, if it has one.
fn scheme_and_address(url: &str) -> (&str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    (scheme, authority.rsplit_once('@').map_or(authority, |(_, address)| address))
}

/// The host in a URL and its port, if the host is this machine, whose own name is `name`.
fn on_this_machine<'u>(url: &'u str, name: &str) -> Option<(&'u str, u16)> {
    let (scheme, address) = scheme_and_address(url);
    let (host, port) = match address.rfind(':').filter(|colon| !address[*colon..].contains(']')) {
        Some(colon) => (&address[..colon], address[colon + 1..].parse().ok()?),
        None => (address, usual_port(scheme)),
    };
    let lower = host.trim_end_matches('.').to_lowercase();
    let known = ["localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"];
    let named = known.contains(&lower.as_str()) || lower.ends_with(".localhost") || (!name.is_empty() && lower == name);
    let is_own = |ip: IpAddr| ip.to_canonical().is_loopback() || ip.is_unspecified();
    let numbered = lower.trim_start_matches('[').trim_end_matches(']').parse().is_ok_and(is_own)
        // Programs in C take `127.1` for 127.0.0.1.
        || lower.strip_prefix("127.").is_some_and(|rest| rest.parse::<Ipv4Addr>().is_err() && is_numeric(rest));
    (named || numbered).then_some((host, port))
}

/// The URL with the name by which nodes reach this machine, at the place of its host: a user or a password may be the same.
fn with_host(url: &str, host: &str) -> String {
    let start = url.rfind('@').map_or_else(|| url.find("://").map_or(0, |colon| colon + 3), |at| at + 1);
    format!("{}{}", &url[..start], url[start..].replacen(host, HOST_NAME, 1))
}

fn is_numeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn usual_port(scheme: &str) -> u16 {
    match scheme {
        "https" => 443,
        "socks5" | "socks5h" => 1080,
        _ => 80,
    }
}

/// Upper case before lower case.
fn from_variables(get: impl Fn(&str) -> Option<String>) -> ProxySettings {
    let variable = |name: &str| get(name).filter(|value| !value.is_empty());
    let either = |name: &str| variable(name).or_else(|| variable(&name.to_lowercase()));
    ProxySettings { http: either("HTTP_PROXY"), https: either("HTTPS_PROXY"), none: either("NO_PROXY") }
}

/// What the Docker client passes to containers: the engine's entry, else the default one.
fn from_client(file: &Path, address: &Address, host: Option<&str>) -> Option<ProxySettings> {
    let config = DockerConfig::read(file).ok()?;
    let address = address.to_string();
    let engines: Vec<&str> = host.into_iter().chain([address.as_str(), "default"]).collect();
    let entry = config.proxies(&engines)?;
    let text = |key: &str| entry[key].as_str().filter(|value| !value.is_empty()).map(str::to_owned);
    let settings = ProxySettings { http: text("httpProxy"), https: text("httpsProxy"), none: text("noProxy") };
    (!settings.is_empty()).then_some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_wins_and_empty_is_none() {
        let get = |name: &str| match name {
            "HTTP_PROXY" => Some(String::new()),
            "http_proxy" => Some("http://low:1".to_owned()),
            "HTTPS_PROXY" => Some("http://up:1".to_owned()),
            "https_proxy" => Some("http://low:2".to_owned()),
            _ => None,
        };
        let settings = from_variables(get);
        assert_eq!(settings.http.as_deref(), Some("http://low:1"));
        assert_eq!(settings.https.as_deref(), Some("http://up:1"));
    }

    #[test]
    fn the_entry_of_the_engine_comes_before_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        let config = r#"{"auths": {}, "proxies": {
            "default": {"httpProxy": "http://all:1", "noProxy": "corp.example"},
            "tcp://10.0.0.1:2375": {"httpsProxy": "http://one:1"},
            "unix:///empty.sock": {}}}"#;
        std::fs::write(&file, config).unwrap();
        let all = from_client(&file, &Address::Unix("/var/run/docker.sock".into()), None).unwrap();
        assert_eq!((all.http.as_deref(), all.none.as_deref()), (Some("http://all:1"), Some("corp.example")));
        let one =
            from_client(&file, &Address::Tcp { host: "10.0.0.1".to_owned(), port: 2375, tls: None }, None).unwrap();
        assert_eq!((one.http, one.https.as_deref()), (None, Some("http://one:1")));
        assert_eq!(from_client(&file, &Address::Unix("/empty.sock".into()), None), None);
        assert_eq!(from_client(&directory.path().join("absent"), &Address::Unix("/x".into()), None), None);
    }

    #[test]
    fn every_way_to_write_this_machine_is_known() {
        let host = |url: &'static str| on_this_machine(url, "laptop");
        for (url, found) in [
            ("http://127.0.0.1:3128", ("127.0.0.1", 3128)),
            ("http://me:pass@127.0.0.2:3128/", ("127.0.0.2", 3128)),
            ("localhost:3128", ("localhost", 3128)),
            ("https://LocalHost", ("LocalHost", 443)),
            ("http://[::1]:3128", ("[::1]", 3128)),
            ("http://[::ffff:127.0.0.1]", ("[::ffff:127.0.0.1]", 80)),
            ("socks5://0.0.0.0", ("0.0.0.0", 1080)),
            ("127.1:8080", ("127.1", 8080)),
            ("http://laptop:3128", ("laptop", 3128)),
            ("http://proxy.localhost:1", ("proxy.localhost", 1)),
        ] {
            assert_eq!(host(url), Some(found), "{url}");
        }
        for url in ["http://proxy:3128", "http://10.0.0.1:3128", "http://[fd00::1]:3128", "http://localhost.example:1"]
        {
            assert_eq!(host(url), None, "{url}");
        }
    }

    #[test]
    fn only_the_host_of_a_url_is_replaced() {
        for (url, host, found) in [
            ("http://localhost:pw@localhost:1/x", "localhost", "http://localhost:pw@host.coracle.internal:1/x"),
            ("http://proxy:1", "proxy", "http://host.coracle.internal:1"),
            ("localhost:1", "localhost", "host.coracle.internal:1"),
        ] {
            assert_eq!(with_host(url, host), found);
        }
    }

    #[test]
    fn a_proxy_on_the_loopback_reaches_nodes_only_if_it_listens_on_all_addresses() {
        let loopback = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let all = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let [closed, open] = [&loopback, &all].map(|listener| listener.local_addr().unwrap().port());
        let settings = ProxySettings {
            http: Some(format!("http://me:secret@localhost:{open}")),
            https: Some(format!("http://me:secret@127.0.0.1:{closed}")),
            none: Some("corp.example".to_owned()),
        };
        let (found, warnings) = for_nodes(&settings, &[true], true);
        assert_eq!(found.http, Some(format!("http://me:secret@host.coracle.internal:{open}")));
        assert_eq!((found.https, found.none.as_deref()), (None, Some("corp.example")));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(&format!("`http://***@127.0.0.1:{closed}`: it listens on addresses")));
        assert!(!warnings[0].contains("secret"));
        // A cluster with IPv6 only has no way to what listens on IPv4 only, and another machine has none at all.
        assert_eq!(for_nodes(&settings, &[false], true).0.http, None);
        let (found, warnings) = for_nodes(&settings, &[true], false);
        assert!(found.is_empty() && warnings[0].contains("on another one"), "{warnings:?}");
        drop(loopback);
        assert!(for_nodes(&settings, &[true], true).1[0].contains(&format!("nothing listens on port {closed}")));
    }

    #[test]
    fn urls_that_programs_would_not_take_are_told() {
        for (url, said) in [("http://h:3128 ", "a blank"), ("http://", "no host"), ("http://h:99999", "its port")] {
            assert!(flaw(url).is_some_and(|flaw| flaw.contains(said)), "{url}");
        }
        for url in ["http://h:3128", "socks5://h", "h:3128/", "http://[fd00::1]:3128", "http://u:p@h:1", "[fd00::1]"] {
            assert_eq!(flaw(url), None, "{url}");
        }
    }
}
