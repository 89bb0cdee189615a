//! What a node has logs of, and which of them is meant. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Code, Error, Result, closest};

/// Where the kubelet's runtime writes the output of containers, by pod and container.
pub(super) const POD_LOGS: &str = "/var/log/pods";

/// Prints each unit with its state, and each log file of a container, the oldest one first. It works without containerd.
pub(super) const LIST: &str = "systemctl list-units --type=service --all --plain --no-legend --no-pager \
     | while read -r unit state rest; do echo \"unit $unit $state\"; done
cd /var/log/pods 2>/dev/null || exit 0
ls -1dtr -- */*/*.log 2>/dev/null | while read -r file; do echo \"log $file\"; done";

/// A container that has a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerLog {
    namespace: String,
    pod: String,
    container: String,
    /// Its directory below [`POD_LOGS`], and the names of its files, the oldest one first.
    directory: String,
    files: Vec<String>,
}

impl ContainerLog {
    /// Where its logs are.
    pub(super) fn directory(&self) -> String {
        format!("{POD_LOGS}/{}", self.directory)
    }

    /// The newest file, or the one before it.
    pub(super) fn file(&self, previous: bool) -> Option<String> {
        let file = self.files.iter().rev().nth(usize::from(previous))?;
        Some(format!("{}/{file}", self.directory()))
    }

    /// Pod and container, for people.
    pub(super) fn title(&self) -> String {
        format!("{}/{}", self.pod, self.container)
    }

    fn is(&self, word: &str) -> bool {
        let Self { namespace, pod, container, .. } = self;
        let names = [
            container.clone(),
            pod.clone(),
            format!("{namespace}/{pod}"),
            format!("{pod}/{container}"),
            format!("{namespace}/{pod}/{container}"),
        ];
        names.iter().any(|name| name == word)
    }
}

/// What is meant by a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    Unit(String),
    Containers(Vec<ContainerLog>),
}

/// What a node has logs of.
#[derive(Debug, Default)]
pub(super) struct Sources {
    units: Vec<String>,
    containers: Vec<ContainerLog>,
}

impl Sources {
    /// From what [`LIST`] printed.
    pub(super) fn read(text: &str) -> Self {
        let mut sources = Self::default();
        let mut containers: BTreeMap<(String, String, String), ContainerLog> = BTreeMap::new();
        for line in text.lines() {
            // systemd marks units that have failed.
            let mut words = line.split_whitespace().filter(|word| !["●", "×", "*"].contains(word));
            match (words.next(), words.next(), words.next()) {
                (Some("unit"), Some(unit), state) if state != Some("not-found") => {
                    sources.units.extend(unit.strip_suffix(".service").map(str::to_owned));
                }
                (Some("log"), Some(path), None) => {
                    let Some(log) = container_log(path) else { continue };
                    let key = (log.namespace.clone(), log.pod.clone(), log.container.clone());
                    let known =
                        containers.entry(key).or_insert_with(|| ContainerLog { files: Vec::new(), ..log.clone() });
                    // A pod that was made anew under the same name has another directory: the newest one counts.
                    if known.directory != log.directory {
                        (known.directory, known.files) = (log.directory, Vec::new());
                    }
                    known.files.extend(log.files);
                }
                _ => {}
            }
        }
        sources.containers = containers.into_values().collect();
        sources
    }

    /// Every unit and container, by name.
    pub(super) fn names(&self) -> Vec<String> {
        let containers: BTreeSet<&str> = self.containers.iter().map(|log| log.container.as_str()).collect();
        self.units.iter().map(String::as_str).chain(containers).map(str::to_owned).collect()
    }

    /// What is meant by a word: a unit, a container, a pod, or several of them joined by `/`.
    pub(super) fn find(&self, node: &str, word: &str) -> Result<Source> {
        let unit = word.strip_suffix(".service").unwrap_or(word);
        if self.units.iter().any(|known| known == unit) {
            return Ok(Source::Unit(unit.to_owned()));
        }
        let containers: Vec<ContainerLog> = self.containers.iter().filter(|log| log.is(word)).cloned().collect();
        if !containers.is_empty() {
            return Ok(Source::Containers(containers));
        }
        let pods: BTreeSet<&str> = self.containers.iter().map(|log| log.pod.as_str()).collect();
        let names: BTreeSet<&str> = self.containers.iter().map(|log| log.container.as_str()).collect();
        let all = self.units.iter().map(String::as_str).chain(pods.iter().copied()).chain(names);
        let error = Error::new(Code::NotFound, format!("there is no unit, pod or container `{word}`")).on_node(node);
        Err(match closest(word, all) {
            Some(meant) => error.hint(format!("`{meant}` is one")),
            None => error
                .hint(format!("pods: {}", joined(pods.into_iter())))
                .hint(format!("units: {}", joined(self.units.iter().map(String::as_str)))),
        })
    }
}

/// Names for a message.
fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// From `NAMESPACE_POD_UID/CONTAINER/FILE`; none of the first three has `_` in it.
fn container_log(path: &str) -> Option<ContainerLog> {
    let (directory, file) = path.rsplit_once('/')?;
    let (pod, container) = directory.split_once('/')?;
    let mut parts = pod.split('_');
    Some(ContainerLog {
        namespace: parts.next()?.to_owned(),
        pod: parts.next()?.to_owned(),
        container: container.to_owned(),
        directory: directory.to_owned(),
        files: vec![file.to_owned()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "unit ● kubelet.service loaded\nunit containerd.service loaded\nunit gone.service not-found\n\
        log kube-system_etcd-dev_0a/etcd/0.log\nlog kube-system_coredns-x_1/coredns/0.log\n\
        log kube-system_coredns-y_2/coredns/0.log\nlog default_web_3/app/0.log\nlog default_web_3/side/0.log\n\
        log kube-system_etcd-dev_0b/etcd/1.log\nlog kube-system_etcd-dev_0b/etcd/2.log\n";

    fn titles(word: &str) -> Vec<String> {
        match Sources::read(LISTED).find("dev", word) {
            Ok(Source::Unit(unit)) => vec![format!("unit {unit}")],
            Ok(Source::Containers(logs)) => logs.iter().map(ContainerLog::title).collect(),
            Err(error) => error.hints().to_vec(),
        }
    }

    #[test]
    fn a_word_is_a_unit_a_container_or_a_pod() {
        assert_eq!(titles("kubelet"), ["unit kubelet"]);
        assert_eq!(titles("containerd.service"), ["unit containerd"]);
        assert_eq!(titles("coredns"), ["coredns-x/coredns", "coredns-y/coredns"]);
        assert_eq!(titles("kube-system/coredns-x"), ["coredns-x/coredns"]);
        assert_eq!(titles("web"), ["web/app", "web/side"]);
        assert_eq!(titles("web/side"), ["web/side"]);
        assert_eq!(titles("default/web/app"), ["web/app"]);
    }

    #[test]
    fn what_does_not_exist_is_answered_with_what_does() {
        assert_eq!(titles("kubelt"), ["`kubelet` is one"]);
        assert_eq!(titles("gone"), ["pods: coredns-x, coredns-y, etcd-dev, web", "units: kubelet, containerd"]);
        let error = Sources::read("").find("dev", "x").unwrap_err();
        assert_eq!(error.to_string(), "there is no unit, pod or container `x` on node `dev`");
        assert_eq!(error.hints(), ["pods: none", "units: none"]);
    }

    #[test]
    fn the_newest_file_of_the_newest_directory_counts() {
        let Source::Containers(logs) = Sources::read(LISTED).find("dev", "etcd").unwrap() else { panic!() };
        assert_eq!(logs.len(), 1);
        assert_eq!(logs[0].file(false).unwrap(), "/var/log/pods/kube-system_etcd-dev_0b/etcd/2.log");
        assert_eq!(logs[0].file(true).unwrap(), "/var/log/pods/kube-system_etcd-dev_0b/etcd/1.log");
        let Source::Containers(logs) = Sources::read(LISTED).find("dev", "app").unwrap() else { panic!() };
        assert_eq!(logs[0].file(true), None);
    }
}
