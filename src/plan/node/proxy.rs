//! The proxy settings of nodes, which exclude everything in the cluster. Pure.

use crate::plan::facts::ProxySettings;
use crate::plan::layout::{DOMAIN, Layout};

/// The names of the variables in upper case; each is set in lower case too.
const NAMES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// A drop-in for all services of a node that passes the container's proxy variables on; containerd needs them to pull.
pub fn drop_in() -> String {
    let lower = NAMES.iter().map(|name| name.to_lowercase());
    let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).chain(lower).collect();
    format!("[Service]\nPassEnvironment={}\n", names.join(" "))
}

/// The environment variables of nodes in upper and lower case; empty without a proxy.
pub fn environment(layout: &Layout, proxy: &ProxySettings) -> Vec<String> {
    if proxy.is_empty() {
        return Vec::new();
    }
    let none = exclusions(layout, proxy.none.as_deref());
    let mut variables = Vec::new();
    for (name, value) in NAMES.into_iter().zip([proxy.http.as_ref(), proxy.https.as_ref(), Some(&none)]) {
        if let Some(value) = value {
            variables.push(format!("{name}={value}"));
            variables.push(format!("{}={value}", name.to_lowercase()));
        }
    }
    variables
}

/// A variable of a proxy, or its value, without the user and the password. Other variables stay as they are.
pub fn without_credentials(variable: &str) -> String {
    let (name, url) = match variable.split_once('=') {
        Some((name, url)) if name.chars().all(|letter| letter.is_alphanumeric() || letter == '_') => (name, url),
        _ => ("HTTP_PROXY", variable),
    };
    let is_url = ["HTTP_PROXY", "HTTPS_PROXY"].contains(&name.to_uppercase().as_str());
    if !is_url {
        return variable.to_owned();
    }
    format!("{}{}", &variable[..variable.len() - url.len()], masked(url, "***"))
}

/// A URL with a mask in the place of user and password, if it has them.
pub fn masked(url: &str, mask: &str) -> String {
    // A password may have any sign in it, and programs take a URL without a scheme too.
    match url.rsplit_once('@') {
        Some((credentials, host)) => {
            format!("{}{mask}@{host}", &url[..credentials.find("://").map_or(0, |colon| colon + 3)])
        }
        None => url.to_owned(),
    }
}

/// What must bypass the proxy: the user's list, then everything in the cluster.
fn exclusions(layout: &Layout, user: Option<&str>) -> String {
    let networking = &layout.cluster.networking;
    let divisions = std::iter::once(&layout.division).chain(&layout.division_v6);
    let subnets = divisions.map(|division| division.subnet);
    let subnets = subnets.chain(networking.pod_subnet.iter()).chain(networking.service_subnet.iter());
    let loopback = layout.has_ipv6().then(|| "::1".to_owned());
    let local = ["localhost".to_owned(), "127.0.0.1".to_owned()].into_iter().chain(loopback);
    let subnets = subnets.map(|subnet| subnet.to_string());
    let domains = [".svc".to_owned(), ".cluster.local".to_owned(), DOMAIN.to_owned()];
    let nodes = layout.nodes.iter().map(|node| node.name.clone());
    let balancer = layout.balancer.iter().map(|balancer| balancer.name.clone());
    let user = user.unwrap_or_default().split(',').map(str::trim).map(str::to_owned);
    let mut all: Vec<String> = Vec::new();
    for entry in user.chain(local).chain(subnets).chain(domains).chain(nodes).chain(balancer) {
        if !entry.is_empty() && !all.contains(&entry) {
            all.push(entry);
        }
    }
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::layout::tests::layout;

    #[test]
    fn credentials_of_a_proxy_are_not_shown() {
        assert_eq!(
            without_credentials("HTTPS_PROXY=http://u:p@ss@proxy:3128/x"),
            "HTTPS_PROXY=http://***@proxy:3128/x"
        );
        for (variable, shown) in [
            ("https_proxy=u:secret@proxy:3128", "https_proxy=***@proxy:3128"),
            ("HTTP_PROXY=http://u:pa/s=s@proxy:3128", "HTTP_PROXY=http://***@proxy:3128"),
            ("http://u:a=b@proxy:1", "http://***@proxy:1"),
            ("u:secret@127.0.0.1:3128", "***@127.0.0.1:3128"),
        ] {
            assert_eq!(without_credentials(variable), shown);
        }
        for plain in ["HTTP_PROXY=http://proxy:3128", "NO_PROXY=a@b,.svc", "X=http://proxy/a@b", "proxy:3128"] {
            assert_eq!(without_credentials(plain), plain);
        }
    }

    #[test]
    fn the_cluster_is_excluded_and_the_users_list_kept() {
        let proxy = ProxySettings {
            http: Some("http://p:3128".to_owned()),
            https: None,
            none: Some("corp.example, .svc".to_owned()),
        };
        let variables = environment(&layout(1, 1), &proxy);
        assert!(variables.contains(&"http_proxy=http://p:3128".to_owned()));
        let none = variables.iter().find(|variable| variable.starts_with("NO_PROXY=")).unwrap();
        assert_eq!(
            none,
            "NO_PROXY=corp.example,.svc,localhost,127.0.0.1,172.18.0.0/22,10.244.0.0/16,10.96.0.0/16,.cluster.local,.coracle.internal,dev-control-plane,dev-worker"
        );
        assert!(environment(&layout(1, 0), &ProxySettings::default()).is_empty());
        for variable in &variables {
            let name = variable.split('=').next().unwrap();
            assert!(drop_in().split(['=', ' ', '\n']).any(|passed| passed == name), "{name} does not reach the units");
        }
    }
}
