//! What is seen in a node: all of it is asked for here, most of it at once. Causes are looked for in it, and nowhere else.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::health::ask::output;
use crate::cluster::health::lines::relevant_lines;
use crate::cluster::health::probe::is_full;
use crate::engine::Engine;
use crate::error::Code;

/// Begins a part of what the script prints; the name of the part follows.
const PART: char = '\u{1}';
/// Looks at everything that costs little. Its argument is the ID of the node's container, by which the kernel tells of it.
const SCRIPT: &str = include_str!("facts.sh");

/// What was seen in a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Almost nothing is free on the disk.
    pub is_full: bool,
    /// When its certificates begin, if that is in its future.
    pub begins: Option<String>,
    /// How often systemd started the kubelet again.
    pub restarts: u64,
    /// The kubelet says that it is well; asked only if it was started again.
    pub is_well: bool,
    /// What the kernel ended because memory was short.
    pub killed: Vec<Killed>,
    /// The last line of the kubelet's log about an image of coracle's own pods that cannot be pulled.
    pub pull: Option<String>,
    /// Lines of the kubelet's log that a known cause writes again and again.
    pub signs: Vec<String>,
    /// What containerd says of the pod network's configuration.
    pub network: String,
    /// Which program listens at which TCP port.
    pub listeners: Vec<(u16, String)>,
    /// The last container of each container of the pods in `kube-system`.
    pub containers: Vec<Attempt>,
}

/// A program that the kernel ended because memory was short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Killed {
    pub program: String,
    /// The node's own limit was reached, and not the end of the machine's memory.
    pub by_limit: bool,
}

/// A container, one of several attempts of its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub id: String,
    pub name: String,
    /// How many there were before it.
    pub number: u64,
    /// When it was made, in nanoseconds, and its number, which begins anew when the pod's manifest was changed.
    order: (u64, u64),
    pub ended: bool,
}

/// Looks at a node; `None` if it does not answer. `id` is that of its container.
pub(super) async fn look(engine: &dyn Engine, node: &str, id: &str) -> Option<Facts> {
    match engine.exec(node, &["sh", "-c", SCRIPT, "facts", id], None).await {
        Ok(said) => Some(read(&String::from_utf8_lossy(&said.stdout))),
        // Nothing can be started there.
        Err(error) if error.code() == Code::DiskFull => Some(Facts { is_full: true, ..Facts::default() }),
        Err(_) => None,
    }
}

fn read(said: &str) -> Facts {
    let parts: BTreeMap<&str, &str> = said.split(PART).filter_map(|part| part.split_once('\n')).collect();
    let part = |name: &str| parts.get(name).map(|text| text.trim()).unwrap_or_default();
    let lines = |name: &str| part(name).lines().map(str::to_owned).filter(|line| !line.starts_with("-- "));
    Facts {
        is_full: is_full(part("disk")),
        begins: lines("clock").next(),
        restarts: part("restarts").parse().unwrap_or_default(),
        is_well: part("well") == "yes",
        killed: part("killed").lines().filter_map(killed).collect(),
        pull: lines("pull").next_back(),
        signs: lines("signs").collect(),
        network: part("network").to_owned(),
        listeners: part("listeners").lines().filter_map(listener).collect(),
        containers: serde_json::from_str(part("containers")).map(|list| last_attempts(&list)).unwrap_or_default(),
    }
}

/// A line such as `oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/docker/ID,task_memcg=/docker/ID/…,task=etcd,pid=1`.
fn killed(line: &str) -> Option<Killed> {
    let program = line.rsplit_once(",task=")?.1.split(',').next()?;
    Some(Killed { program: program.to_owned(), by_limit: !line.contains("global_oom") })
}

/// A line of `ss`: `LISTEN 0 4096 127.0.0.1:10248 0.0.0.0:* users:(("kubelet",pid=72,fd=14))`.
fn listener(line: &str) -> Option<(u16, String)> {
    let (_, port) = line.split_whitespace().nth(3)?.rsplit_once(':')?;
    let program = line.split_once("((\"")?.1.split('"').next()?;
    Some((port.parse().ok()?, program.to_owned()))
}

fn last_attempts(list: &Value) -> Vec<Attempt> {
    let mut newest: BTreeMap<(&str, &str), Attempt> = BTreeMap::new();
    for container in list["containers"].as_array().into_iter().flatten() {
        let label = |key: &str| container["labels"][format!("io.kubernetes.pod.{key}")].as_str().unwrap_or_default();
        if label("namespace") != "kube-system" {
            continue;
        }
        let name = container["metadata"]["name"].as_str().unwrap_or_default();
        let number = container["metadata"]["attempt"].as_u64().unwrap_or_default();
        let made = container["createdAt"].as_str().and_then(|time| time.parse().ok()).unwrap_or_default();
        let attempt = Attempt {
            id: container["id"].as_str().unwrap_or_default().to_owned(),
            name: name.to_owned(),
            number,
            order: (made, number),
            ended: container["state"] == "CONTAINER_EXITED",
        };
        let kept = newest.entry((label("name"), name)).or_insert_with(|| attempt.clone());
        if kept.order < attempt.order {
            *kept = attempt;
        }
    }
    newest.into_values().collect()
}

/// The end of a container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub code: i64,
    /// How long it ran, in seconds.
    pub lived: i64,
}

/// How a container ended; `None` if it did not.
pub(super) async fn end(engine: &dyn Engine, node: &str, container: &Attempt) -> Option<End> {
    let details = output(engine, node, &["crictl", "inspect", &container.id]).await?;
    let details: Value = serde_json::from_str(&details).ok()?;
    let status = &details["status"];
    let time = |key: &str| {
        let text = status[key].as_str()?;
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
    };
    let lived = (time("finishedAt")? - time("startedAt")?).whole_seconds();
    Some(End { code: status["exitCode"].as_i64()?, lived })
}

/// The relevant lines of the log of a container.
pub(super) async fn container_log(engine: &dyn Engine, node: &str, container: &Attempt) -> Vec<String> {
    let Ok(log) = engine.exec(node, &["crictl", "logs", "--tail=60", &container.id], None).await else {
        return Vec::new();
    };
    relevant_lines(&format!("{}\n{}", String::from_utf8_lossy(&log.stdout), String::from_utf8_lossy(&log.stderr)))
}

/// The relevant lines of the log of a component, or of the kubelet if that has not started it.
pub(super) async fn log(engine: &dyn Engine, node: &str, facts: &Facts, component: &str) -> Vec<String> {
    let is_unit = ["kubelet", "containerd"].contains(&component);
    if !is_unit && let Some(container) = facts.containers.iter().find(|of| of.name == component) {
        return container_log(engine, node, container).await;
    }
    let unit = format!("--unit={}", if is_unit { component } else { "kubelet" });
    let command = ["journalctl", &unit, "--no-pager", "--output=cat", "--lines=200"];
    relevant_lines(&output(engine, node, &command).await.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read() {
        let said = "\u{1}disk\n4099 4096\n\u{1}restarts\n3\n\u{1}well\nyes\n\u{1}killed\n\
                    [16002.72] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/docker/a,task_memcg=/docker/a/b,task=kube-apiserver,pid=1812,uid=0\n\
                    [16003.72] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),global_oom,task_memcg=/docker/a/b,task=etcd,pid=9,uid=0\n\
                    \u{1}pull\n-- No entries --\n\u{1}signs\none\ntwo\n\u{1}network\n\"lastCNILoadStatus\": \"OK\"\n\u{1}listeners\n\
                    LISTEN 0      4096       127.0.0.1:10257      0.0.0.0:*    users:((\"kubelet\",pid=72,fd=14))\n\
                    LISTEN 0      4096               *:10250            *:*    users:((\"kubelet\",pid=72,fd=15))\n\
                    \u{1}containers\n{}\n";
        let facts = read(said);
        assert!(facts.is_full && facts.is_well && facts.restarts == 3 && facts.pull.is_none());
        let killed = |program: &str, by_limit| Killed { program: program.to_owned(), by_limit };
        assert_eq!(facts.killed, [killed("kube-apiserver", true), killed("etcd", false)]);
        assert_eq!(facts.listeners, [(10257, "kubelet".to_owned()), (10250, "kubelet".to_owned())]);
        assert_eq!(facts.signs, ["one", "two"]);
        assert_eq!(read(""), Facts::default());
    }
}
