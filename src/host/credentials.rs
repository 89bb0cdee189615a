//! This host's credentials for registries: those of the Docker client and its credential helpers.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::config::Registry;
use crate::engine::spec;
use crate::error::{Code, Error, Result};
use crate::host::docker_config::DockerConfig;
use crate::plan::node::credentials::{Login, Secret};
use crate::plan::node::registries::authority;

/// What `docker login` calls Docker Hub.
const HUB: &str = "https://index.docker.io/v1/";
/// How long a helper may take: it may ask its user to unlock a key ring.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// Credentials for the registries of a configuration that ask for them, or for their mirrors.
///
/// Nodes ask for credentials by the name of the registry only, and containerd offers them to each host that it asks. So
/// those of one host are taken, and with them go the hosts that have the same: nodes ask no other host.
pub(crate) async fn of_registries(directory: Option<&Path>, registries: &[Registry]) -> Result<Vec<Login>> {
    let mut logins = Vec::new();
    for registry in registries.iter().filter(|registry| registry.login) {
        if let Some(account) = &registry.account {
            let (user, secret) = (account.user.clone(), Secret::new(account.reveal().to_owned()));
            let hosts = [authority(&registry.host)].into();
            logins.push(Login { host: registry.host.clone(), user, secret, hosts });
            continue;
        }
        let mirrors = registry.mirrors.iter().map(|url| authority(url));
        let mut hosts: Vec<String> = std::iter::once(authority(&registry.host)).chain(mirrors).collect();
        hosts.dedup();
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        logins.push(Login { host: registry.host.clone(), ..first(directory, &names).await? });
    }
    Ok(logins)
}

/// Credentials for the registry of an image, if the Docker configuration has any that can be used: an image that needs none
/// is pulled without.
pub(crate) async fn of_image(directory: Option<&Path>, reference: &str) -> Option<spec::Login> {
    let config = DockerConfig::read(&directory?.join("config.json")).ok()?;
    let host = registry_of(reference);
    let login = find(&config, host).await.ok()??;
    let server = if host == "docker.io" { HUB } else { host };
    Some(spec::Login { server: server.to_owned(), user: login.user, password: login.secret.reveal().to_owned() })
}

/// The registry of an image's name: what comes before the first slash, if it looks like a host.
fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// The hosts of a registry that nodes do not ask, because the credentials are not theirs.
pub(crate) fn left_out<'a>(registry: &'a Registry, login: &Login) -> Vec<&'a str> {
    let all = std::iter::once(registry.host.as_str()).chain(registry.mirrors.iter().map(String::as_str));
    all.filter(|host| !login.hosts.contains(&authority(host))).collect()
}

/// The credentials of the first host that has any, and every host that has the same.
async fn first(directory: Option<&Path>, hosts: &[&str]) -> Result<Login> {
    let file = directory.map(|directory| directory.join("config.json"));
    let config = file.map(|file| DockerConfig::read(&file)).transpose()?.unwrap_or_default();
    let mut found: Option<Login> = None;
    for host in hosts {
        match &mut found {
            None => found = find(&config, host).await?,
            // That it has none that can be used is no failure: it is left out.
            Some(first) => {
                let other = find(&config, host).await.ok().flatten();
                if other.is_some_and(|other| (other.user, other.secret) == (first.user.clone(), first.secret.clone())) {
                    first.hosts.insert((*host).to_owned());
                }
            }
        }
    }
    if let Some(found) = found {
        return Ok(found);
    }
    let host = hosts.first().copied().unwrap_or_default();
    let command = if host == "docker.io" { "docker login".to_owned() } else { format!("docker login {host}") };
    Err(Error::new(Code::CredentialsMissing, format!("this host has no credentials for `{host}`"))
        .because("neither the Docker configuration nor its credential helpers have any")
        .hint(format!("log in once: `{command}`")))
}

/// What the registry's credential helpers answer, else what the configuration itself has.
async fn find(config: &DockerConfig, host: &str) -> Result<Option<Login>> {
    let server = if host == "docker.io" { HUB } else { host };
    for helper in config.helpers(host) {
        if let Some((user, secret)) = ask(helper, server).await? {
            return login(host, user, secret).map(Some);
        }
    }
    config.login(host).and_then(|entry| stored(host, entry).transpose()).transpose()
}

/// Credentials that Kubernetes can use: it does not know identity tokens, but one registry takes them as a password.
fn login(host: &str, user: String, secret: String) -> Result<Login> {
    let user = match user.as_str() {
        "<token>" if host.ends_with(".azurecr.io") => "00000000-0000-0000-0000-000000000000".to_owned(),
        "<token>" => {
            return Err(Error::new(Code::CredentialsMissing, format!("the credentials for `{host}` cannot be used"))
                .because("they are an identity token, and the kubelet can use only a user name and a password")
                .hint(format!("log in with a user name and an access token: `docker login --username NAME {host}`")));
        }
        _ => user,
    };
    Ok(Login { host: host.to_owned(), user, secret: Secret::new(secret), hosts: [host.to_owned()].into() })
}

/// What the configuration itself has; an empty entry means that a helper has it.
fn stored(host: &str, entry: &Value) -> Result<Option<Login>> {
    use base64::Engine as _;
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(token) = text("identitytoken") {
        return login(host, "<token>".to_owned(), token).map(Some);
    }
    if let (Some(user), Some(secret)) = (text("username"), text("password")) {
        return login(host, user, secret).map(Some);
    }
    let Some(packed) = text("auth") else { return Ok(None) };
    let damaged = || {
        Error::new(Code::CredentialsMissing, format!("the Docker configuration's entry for `{host}` is damaged"))
            .hint(format!("log in again: `docker login {host}`"))
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed).map_err(|_| damaged())?;
    let pair = String::from_utf8(bytes).map_err(|_| damaged())?;
    let (user, secret) = pair.trim_end_matches('\0').split_once(':').ok_or_else(damaged)?;
    login(host, user.to_owned(), secret.to_owned()).map(Some)
}

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: String,
}

/// Asks `docker-credential-NAME`; `None` when it has nothing for the server.
async fn ask(helper: &str, server: &str) -> Result<Option<(String, String)>> {
    let program = format!("docker-credential-{helper}");
    let failed = |cause: String| {
        Error::new(Code::CredentialsMissing, format!("`{program}` returned no credentials for `{server}`"))
            .because(cause)
            .hint(format!("try it: `echo {server} | {program} get`"))
    };
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::new(Code::ToolMissing, format!("`{program}` is not installed"))
            .because("the Docker configuration names it as a credential helper")
            .hint("install it, or remove it from `credsStore` and `credHelpers` and log in again"),
        _ => failed(source.to_string()),
    })?;
    let talk = async {
        if let Some(mut input) = child.stdin.take() {
            // A helper that does not read its input reports why itself.
            let _ = input.write_all(server.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(HELPER_TIMEOUT, talk)
        .await
        .map_err(|_| failed(format!("it did not answer within {} s", HELPER_TIMEOUT.as_secs())))?
        .map_err(|source| failed(source.to_string()))?;
    if !output.status.success() {
        // Helpers give their reason on standard output.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().next().unwrap_or_default().chars().take(200).collect::<String>();
        return if line.contains("credentials not found") { Ok(None) } else { Err(failed(line)) };
    }
    let answer: Answer =
        serde_json::from_slice(&output.stdout).map_err(|_| failed("its answer is not valid JSON".to_owned()))?;
    Ok(Some((answer.username, answer.secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn login_of(config: &str, host: &str) -> Result<Login> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        first(Some(directory.path()), &[host]).await
    }

    fn known(host: &str, user: &str, secret: &str) -> Login {
        let hosts = [host.to_owned()].into();
        Login { host: host.to_owned(), user: user.to_owned(), secret: Secret::new(secret), hosts }
    }

    #[tokio::test]
    async fn entries_are_found_by_their_host_however_they_are_written() {
        // me:pass:word
        let config = r#"{"auths": {
            "a.example:5000": {"auth": "bWU6cGFzczp3b3Jk"},
            "https://b.example/v2/": {"username": "you", "password": "p"},
            "https://index.docker.io/v1/": {"auth": "bWU6cGFzczp3b3Jk"},
            "empty.example": {}}}"#;
        assert_eq!(login_of(config, "a.example:5000").await.unwrap(), known("a.example:5000", "me", "pass:word"));
        assert_eq!(login_of(config, "b.example").await.unwrap(), known("b.example", "you", "p"));
        assert_eq!(login_of(config, "docker.io").await.unwrap(), known("docker.io", "me", "pass:word"));
        for host in ["a.example", "empty.example", "c.example"] {
            let error = login_of(config, host).await.unwrap_err();
            assert_eq!(error.code(), Code::CredentialsMissing);
            assert_eq!(error.hints(), [format!("log in once: `docker login {host}`")]);
        }
    }

    #[tokio::test]
    async fn a_mirrors_credentials_are_taken_when_the_registry_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let config = r#"{"auths": {"mirror.example:5000": {"username": "m", "password": "p"}}}"#;
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let mirrors = vec!["https://mirror.example:5000/hub".to_owned()];
        let registry = |login| Registry { mirrors: mirrors.clone(), login, ..Registry::new("docker.io") };
        let found = of_registries(Some(directory.path()), &[registry(true)]).await.unwrap();
        let of_mirror = Login { hosts: ["mirror.example:5000".to_owned()].into(), ..known("docker.io", "m", "p") };
        assert_eq!(found, std::slice::from_ref(&of_mirror));
        assert_eq!(left_out(&registry(true), &of_mirror), ["docker.io"]);
        assert!(of_registries(Some(directory.path()), &[registry(false)]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn credentials_belong_to_the_hosts_that_have_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let config = r#"{"auths": {
            "a.example": {"username": "me", "password": "p"},
            "same.example": {"username": "me", "password": "p"},
            "other.example": {"username": "me", "password": "q"}}}"#;
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let mirrors = ["https://other.example", "https://a.example:443", "http://a.example", "https://same.example/x"];
        let registry =
            Registry { mirrors: mirrors.map(str::to_owned).to_vec(), login: true, ..Registry::new("a.example") };
        let found = of_registries(Some(directory.path()), std::slice::from_ref(&registry)).await.unwrap();
        assert_eq!(found[0].hosts, ["a.example", "same.example"].map(str::to_owned).into());
        assert_eq!(left_out(&registry, &found[0]), ["https://other.example", "http://a.example"]);
    }

    #[tokio::test]
    async fn identity_tokens_are_for_the_one_registry_that_takes_them() {
        let config = r#"{"auths": {"x.azurecr.io": {"identitytoken": "t"}, "a.example": {"identitytoken": "t"}}}"#;
        assert!(login_of(config, "x.azurecr.io").await.unwrap().user.starts_with("00000000-"));
        assert!(login_of(config, "a.example").await.unwrap_err().cause().unwrap().contains("identity token"));
    }

    #[tokio::test]
    async fn damage_is_reported_without_repeating_a_secret() {
        for config in [r#"{"auths": {"a.example": {"auth": "hunter2!"}}}"#, r#"{"auths": {"a.example": hunter2"#] {
            let error = login_of(config, "a.example").await.unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_helper_that_is_not_installed_is_named() {
        let config = r#"{"credHelpers": {"a.example": "coracle-absent"}}"#;
        let error = login_of(config, "a.example").await.unwrap_err();
        assert_eq!(error.code(), Code::ToolMissing);
        assert!(error.message().contains("docker-credential-coracle-absent"));
    }

    #[tokio::test]
    async fn an_image_is_pulled_with_the_login_of_its_registry() {
        let directory = tempfile::tempdir().unwrap();
        let config = r#"{"auths": {"localhost:5001": {"username": "m", "password": "p"},
            "https://index.docker.io/v1/": {"username": "h", "password": "q"}}}"#;
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let of = async |reference| of_image(Some(directory.path()), reference).await;
        for (reference, server, user) in [("localhost:5001/team/node", "localhost:5001", "m"), ("me/node", HUB, "h")] {
            let login = of(reference).await.unwrap();
            assert_eq!((login.server.as_str(), login.user.as_str()), (server, user));
        }
        assert!(of("registry.example/node").await.is_none());
        assert!(of_image(None, "me/node").await.is_none());
    }
}
