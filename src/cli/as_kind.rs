//! The command under the name `kind`: what scripts of kind type, in coracle's words, and what they read of it.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use crate::error::{Code, Error};

/// The release of kind whose commands, options and lines these are.
const RELEASE: &str = "0.33.0";
/// The node image that kind builds, unless an option names another one.
const IMAGE: &str = "kindest/node:latest";
/// kind's network, unless its variable names another one.
const NETWORK: &str = "kind";
/// The command's name, and that of its cluster, unless its variable or an option names another one.
pub(super) const NAME: &str = "kind";

/// Whether the command is called by the name of kind.
pub(super) fn is_called(words: &[OsString]) -> bool {
    words.first().map(Path::new).and_then(Path::file_name) == Some(OsStr::new("kind"))
}

/// The network that nodes share with what users of kind connect there.
pub(super) fn network() -> String {
    let named = std::env::var("KIND_EXPERIMENTAL_DOCKER_NETWORK").ok();
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| NETWORK.to_owned())
}

/// kind's exit code: it has one for everything that fails.
pub(super) fn exit_code(code: ExitCode) -> ExitCode {
    if code == ExitCode::SUCCESS { code } else { ExitCode::FAILURE }
}

/// Whether kind says the same without failing: that a cluster which does not exist has no nodes.
pub(super) fn forgives(words: &[OsString], error: &Error) -> bool {
    error.code() == Code::ClusterNotFound && command(words).starts_with(&["get", "nodes"])
}

/// What kind says on standard error where a list is empty: scripts compare it. `words` are those that were translated.
pub(super) fn nothing(words: &[OsString]) -> Option<String> {
    match command(words)[..] {
        ["get", "clusters", ..] => Some("No kind clusters found.".to_owned()),
        ["get", "nodes", ..] if has(words, &["-A", "--all-clusters"]) => {
            Some("No kind nodes for any cluster.".to_owned())
        }
        ["get", "nodes", ..] => {
            let name = value(words, &["--name", "-n"]).unwrap_or(NAME);
            Some(format!("No kind nodes found for cluster \"{name}\"."))
        }
        _ => None,
    }
}

/// What a call prints that kind answers about itself: its version, as tools look for it.
pub(super) fn answer(words: &[OsString]) -> Option<String> {
    if command(words).first().copied() == Some("version") {
        let own = format!("coracle{}", env!("CARGO_PKG_VERSION"));
        let system = format!("{}/{}", std::env::consts::OS, architecture());
        let is_quiet = has(words, &["-q", "--quiet"]);
        return Some(if is_quiet { RELEASE.to_owned() } else { format!("kind v{RELEASE} {own} {system}") });
    }
    (command(words).is_empty() && has(words, &["--version"])).then(|| format!("kind version {RELEASE}"))
}

/// The processor in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A command line of kind as one of coracle: with kind's names and its lists. `named` is the cluster that the environment names.
pub(super) fn translated(mut words: Vec<OsString>, named: Option<&str>) -> Vec<OsString> {
    let is_named = has(&words, &["--name", "-n"]);
    let mut more: Vec<OsString> = Vec::new();
    match command(&words)[..] {
        // The name of a new cluster may stand in its file.
        ["create", "cluster", ..] => {
            more.push("--as-kind".into());
            more.extend(named.filter(|_| !is_named).into_iter().flat_map(|name| ["--name".into(), name.into()]));
        }
        ["build", "node-image", ..] if !has(&words, &["--image"]) => more.extend(["--image".into(), IMAGE.into()]),
        ["get", "nodes" | "kubeconfig", ..]
        | ["delete", "cluster", ..]
        | ["export", "kubeconfig" | "logs", ..]
        | ["load", "docker-image" | "image-archive", ..]
            if !is_named && !has(&words, &["-A", "--all-clusters"]) =>
        {
            more.extend(["--name".into(), named.unwrap_or(NAME).into()]);
        }
        _ => {}
    }
    if let ["get", "clusters" | "nodes", ..] = command(&words)[..]
        && !has(&words, &["--output", "-o"])
    {
        more.extend(["--output".into(), "name".into()]);
    }
    words.append(&mut more);
    words
}

/// Whether one of these options is among the words: alone, or with a value in the same word.
fn has(words: &[OsString], known: &[&str]) -> bool {
    words
        .iter()
        .skip(1)
        .filter_map(|word| word.to_str())
        .any(|word| known.iter().any(|known| rest(word, known).is_some()))
}

/// The value of the first of these options.
fn value<'a>(words: &'a [OsString], known: &[&str]) -> Option<&'a str> {
    let mut words = words.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        match known.iter().find_map(|known| rest(word, known)) {
            Some("") => return words.next(),
            Some(value) => return Some(value.trim_start_matches('=')),
            None => {}
        }
    }
    None
}

/// What follows an option in its word.
fn rest<'a>(word: &'a str, option: &str) -> Option<&'a str> {
    word.strip_prefix(option).filter(|rest| rest.is_empty() || rest.starts_with('=') || !option.starts_with("--"))
}

/// The words of a command line that are no options: the command, then what it is given.
fn command(words: &[OsString]) -> Vec<&str> {
    let words = words.iter().skip(1).filter_map(|word| word.to_str());
    words.filter(|word| !word.starts_with('-')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn only_the_name_of_the_program_decides() {
        assert!(is_called(&words("/usr/local/bin/kind get nodes")));
        for other in ["coracle get nodes", "/kind/coracle kind", "kind.sh", ""] {
            assert!(!is_called(&words(other)), "{other}");
        }
    }

    #[test]
    fn scripts_of_kind_mean_kinds_cluster_and_read_names() {
        for (typed, named, wanted) in [
            ("kind create cluster", None, "kind create cluster --as-kind"),
            ("kind create cluster --config f", Some("ci"), "kind create cluster --config f --as-kind --name ci"),
            ("kind create cluster --name=a", Some("ci"), "kind create cluster --name=a --as-kind"),
            ("kind get clusters", Some("ci"), "kind get clusters --output name"),
            ("kind get nodes", None, "kind get nodes --name kind --output name"),
            ("kind get nodes -A", None, "kind get nodes -A --output name"),
            ("kind get nodes -n a -o json", None, "kind get nodes -n a -o json"),
            ("kind delete cluster", Some("ci"), "kind delete cluster --name ci"),
            ("kind delete cluster --kubeconfig f", None, "kind delete cluster --kubeconfig f --name kind"),
            ("kind delete clusters --all", None, "kind delete clusters --all"),
            ("kind load docker-image a b", None, "kind load docker-image a b --name kind"),
            ("kind load docker-image a --nodes=x", None, "kind load docker-image a --nodes=x --name kind"),
            ("kind export logs there", None, "kind export logs there --name kind"),
            ("kind build node-image v1.36.3", Some("ci"), "kind build node-image v1.36.3 --image kindest/node:latest"),
            ("kind build node-image --image=a:b", None, "kind build node-image --image=a:b"),
        ] {
            assert_eq!(translated(words(typed), named), words(wanted));
        }
    }

    #[test]
    fn its_version_reads_as_that_of_kind() {
        let answer = |typed: &str| answer(&words(typed));
        assert_eq!(answer("kind version -q").as_deref(), Some(RELEASE));
        assert_eq!(answer("kind --version").as_deref(), Some(&*format!("kind version {RELEASE}")));
        assert!(answer("kind version").unwrap().starts_with(&format!("kind v{RELEASE} coracle")));
        assert_eq!(answer("kind get clusters"), None);
    }

    #[test]
    fn an_empty_list_is_told_in_kinds_words() {
        for (typed, wanted) in [
            ("kind get clusters", Some("No kind clusters found.")),
            ("kind get nodes", Some("No kind nodes found for cluster \"kind\".")),
            ("kind get nodes --name=a", Some("No kind nodes found for cluster \"a\".")),
            ("kind get nodes -n a", Some("No kind nodes found for cluster \"a\".")),
            ("kind get nodes -A", Some("No kind nodes for any cluster.")),
            ("kind get kubeconfig", None),
        ] {
            assert_eq!(nothing(&translated(words(typed), None)).as_deref(), wanted, "{typed}");
        }
    }

    #[test]
    fn a_cluster_that_does_not_exist_has_no_nodes() {
        let missing = Error::new(Code::ClusterNotFound, "cluster `kind` does not exist");
        assert!(forgives(&words("kind get nodes --name kind"), &missing));
        assert!(!forgives(&words("kind get kubeconfig"), &missing));
        assert!(!forgives(&words("kind get nodes"), &Error::new(Code::EngineUnreachable, "no engine")));
    }
}
