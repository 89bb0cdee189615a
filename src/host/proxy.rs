//! The proxy settings for nodes: those of the environment, else those of the Docker client.

use std::path::{Path, PathBuf};

use crate::engine::address::{Address, Environment};
use crate::host::docker_config::DockerConfig;
use crate::plan::ProxySettings;

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
}
