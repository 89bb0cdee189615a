//! What a cluster has before its controllers work, and how much work it is to make one: roles that are written early, calls
//! that are held, pods that come early.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{docker, ensure, eventually};

const KINDS: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];
const SELECTOR: &str = "--selector=kubernetes.io/bootstrapping=rbac-defaults";
/// Without it, no one may do anything while the others are missing.
const KEPT: &str = "cluster-admin";

/// What a new cluster costs, whatever the machine: requests to the API server until someone asks for their number, and events
/// of the node's container at the engine. Measured on 28 November 2026; half as much again is too much.
const REQUESTS: u64 = 800;
const EVENTS: usize = 40;
/// On a slow machine, `create` looks for a reason while it waits: what that adds to the events for each second over ten.
const EVENTS_PER_SECOND: usize = 6;

/// Making a cluster costs no more requests and engine calls than it did, and no program is started twice.
pub(super) fn counts(cluster: &Cluster) -> Result<(), String> {
    let metrics = cluster.kubectl(&["get", "--raw=/metrics"])?;
    let values = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    let requests: u64 = values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    let created = docker(&["inspect", "--format={{.Created}}", &cluster.node()])?;
    let since = format!("--since={}", created.trim());
    let now = docker(&["exec", &cluster.node(), "date", "+%s.%N"])?;
    let until = format!("--until={}", now.trim());
    let age = cluster.in_node(&format!(
        "echo $(( {} - $(date +%s -d {}) ))",
        now.trim().split('.').next().unwrap_or_default(),
        created.trim()
    ))?;
    let age: usize = age.trim().parse().map_err(|error| format!("{age}: {error}"))?;
    let most = EVENTS * 3 / 2 + age.saturating_sub(10) * EVENTS_PER_SECOND;
    let filter = format!("--filter=container={}", cluster.node());
    let events = docker(&["events", &since, &until, &filter, "--format={{json .Action}}"])?.lines().count();
    println!("        {requests} requests, {events} events of the engine in {age} s");
    ensure(requests > 100 && requests < REQUESTS * 3 / 2, || format!("{requests} requests instead of {REQUESTS}"))?;
    ensure(events > 2 && events < most, || format!("{events} events instead of {EVENTS}"))?;
    let restarts = cluster.in_node("systemctl show kubelet containerd --property=NRestarts --value")?;
    ensure(restarts.split_whitespace().all(|count| count == "0"), || format!("restarts: {restarts}"))?;
    let attempts = cluster.in_node("crictl ps --output json | jq '[.containers[].metadata.attempt // 0] | max'")?;
    ensure(attempts.trim() == "0", || format!("a container was started again: {attempts}"))
}

/// The roles that are written before the API server starts are those that it writes itself.
pub(super) fn roles(cluster: &Cluster) -> Result<(), String> {
    let before = stored(cluster)?;
    ensure(before.len() > 100, || format!("there are {} roles and bindings", before.len()))?;
    let written = written(cluster, &cluster.node())?;
    ensure(written == before.len(), || format!("{written} of {} were written early", before.len()))?;
    for kind in KINDS {
        let names = before.keys().filter(|(of, _, name)| of == kind && name != KEPT);
        let mut by_namespace: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (_, namespace, name) in names {
            by_namespace.entry(namespace).or_default().push(name);
        }
        for (namespace, names) in by_namespace {
            let place = format!("--namespace={namespace}");
            let mut arguments = vec!["delete", kind, "--wait=false"];
            arguments.extend((!namespace.is_empty()).then_some(place.as_str()));
            arguments.extend(names);
            cluster.kubectl(&arguments)?;
        }
    }
    // One role is left, and so nothing is written early: the API server makes all that is missing itself.
    cluster.in_node("crictl stop $(crictl ps --quiet --name kube-apiserver)")?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let after = stored(cluster)?;
        for (key, value) in &before {
            ensure(after.get(key) == Some(value), || format!("{key:?} was {value}, and is {:?}", after.get(key)))?;
        }
        ensure(after.len() == before.len(), || format!("{} and {}", before.len(), after.len()))
    })?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    ensure(self::written(cluster, &cluster.node())? == 0, || "roles were written although some were there".to_owned())
}

/// With several control planes, each role is written by one of them.
pub(super) fn roles_of_several(cluster: &Cluster) -> Result<(), String> {
    let all = stored(cluster)?.len();
    let planes =
        cluster.kubectl(&["get", "nodes", "--selector=node-role.kubernetes.io/control-plane", "--output=name"])?;
    let counts: Result<Vec<usize>, String> =
        planes.lines().map(|node| written(cluster, node.trim_start_matches("node/"))).collect();
    let counts = counts?;
    ensure(counts.iter().sum::<usize>() == all, || format!("{counts:?} of {all} were written early"))
}

/// Where the API server has flags that may change the roles, it makes them itself.
pub(super) fn roles_by_upstream(cluster: &Cluster) -> Result<(), String> {
    let (all, written) = (stored(cluster)?.len(), written(cluster, &cluster.node())?);
    ensure(all > 100 && written == 0, || format!("{written} of {all} were written early"))
}

/// The Service `kubernetes` and its address, which are written before the API server starts, are those that it makes itself.
pub(super) fn service(cluster: &Cluster) -> Result<(), String> {
    let read = || -> Result<[Value; 2], String> {
        let service = cluster.kubectl_json(&["get", "service", "kubernetes", "--show-managed-fields"])?;
        let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        Ok([cluster.kubectl_json(&["get", "ipaddress", address, "--show-managed-fields"])?, service])
    };
    let is_written_early = |object: &Value| {
        let managers = object["metadata"]["managedFields"].as_array();
        managers.is_none_or(|managers| managers.iter().all(|entry| entry["manager"] != "kube-apiserver"))
    };
    let before = read()?;
    ensure(before.iter().all(is_written_early), || format!("the API server has made them: {before:?}"))?;
    cluster.kubectl(&["delete", "service", "kubernetes"])?;
    let after = eventually(EVENTUALLY_TIMEOUT, read)?;
    for (before, after) in before.iter().zip(&after) {
        ensure(!is_written_early(after), || format!("this is not made by the API server: {after}"))?;
        for place in ["/spec", "/metadata/labels", "/metadata/annotations"] {
            let (old, new) = (before.pointer(place), after.pointer(place));
            ensure(old == new, || format!("{place} was {old:?}, and is {new:?}"))?;
        }
    }
    Ok(())
}

/// How many roles and bindings the last API server of a node says that it has written early.
fn written(cluster: &Cluster, node: &str) -> Result<usize, String> {
    let script = "crictl logs $(crictl ps --quiet --name kube-apiserver) 2>&1 | sed -n 's/^coracle: wrote \\([0-9]*\\) .*/\\1/p'";
    let said = docker(&["exec", node, "bash", "-c", script]);
    let said = said.map_err(|error| format!("{}: {error}", cluster.name))?;
    Ok(said.trim().parse().unwrap_or_default())
}

type Roles = BTreeMap<(String, String, String), Value>;

/// The default roles and bindings, by kind, namespace and name.
fn stored(cluster: &Cluster) -> Result<Roles, String> {
    let mut roles = Roles::new();
    for kind in KINDS {
        let list = cluster.kubectl_json(&["get", kind, "--all-namespaces", SELECTOR])?;
        for role in list["items"].as_array().into_iter().flatten() {
            let meta = &role["metadata"];
            let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
            let mut value = json!({"labels": meta["labels"], "annotations": meta["annotations"]});
            for field in ["rules", "aggregationRule", "roleRef", "subjects"] {
                value[field] = role[field].clone();
            }
            roles.insert((kind.to_owned(), text("namespace"), text("name")), value);
        }
    }
    Ok(roles)
}

/// The accounts of the controllers are written before the API server starts, and are those that the controller manager makes.
pub(super) fn accounts(cluster: &Cluster) -> Result<(), String> {
    const ACCOUNTS: &[&str] = &["get", "serviceaccounts", "--namespace=kube-system"];
    let read = || -> Result<BTreeMap<String, Value>, String> {
        let list = cluster.kubectl_json(ACCOUNTS)?;
        let of = |account: &Value| {
            let mut account = account.clone();
            for field in ["uid", "resourceVersion", "creationTimestamp"] {
                account["metadata"][field] = Value::Null;
            }
            (account["metadata"]["name"].as_str().unwrap_or_default().to_owned(), account)
        };
        Ok(list["items"].as_array().into_iter().flatten().map(of).collect())
    };
    let before = read()?;
    // Roles are written early, too, and after the accounts.
    let version = |arguments: &[&str]| -> Result<u64, String> {
        let found = cluster.kubectl_json(arguments)?;
        let text = found["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        text.parse().map_err(|error| format!("{arguments:?} has the version `{text}`: {error}"))
    };
    let account = version(&["get", "serviceaccount", "deployment-controller", "--namespace=kube-system"])?;
    let role = version(&["get", "clusterrole", "system:controller:deployment-controller"])?;
    ensure(account < role, || format!("the account has the version {account}, and its role {role}"))?;
    let own = ["coredns", "coracle-agent", "default", "kube-proxy"];
    let of_controllers = before.keys().map(String::as_str).filter(|name| !own.contains(name));
    let mut arguments = vec!["delete", "serviceaccounts", "--namespace=kube-system"];
    arguments.extend(of_controllers);
    ensure(arguments.len() > 30, || format!("{before:?}"))?;
    cluster.kubectl(&arguments)?;
    cluster.in_node("crictl stop $(crictl ps --quiet --name kube-controller-manager)")?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let after = read()?;
        ensure(after == before, || format!("before:\n{before:?}\nafter:\n{after:?}"))
    })?;
    cluster.ready(EVENTUALLY_TIMEOUT)
}

/// Nodes may read what their first pods refer to before the API server has heard of these pods, and nothing else.
pub(super) fn readable(cluster: &Cluster) -> Result<(), String> {
    let can = |what: &str, namespace: &str| {
        let place = format!("--namespace={namespace}");
        let node = ["--as=system:node:other", "--as-group=system:nodes", "--as-group=system:authenticated"];
        let said = cluster.kubectl_output(&[&["auth", "can-i", "list", what, &place], &node[..]].concat())?;
        // The answer may have a reason.
        match said.stdout.split_whitespace().next() {
            Some("yes") => Ok(true),
            Some("no") => Ok(false),
            _ => Err(format!("{what}: {}{}", said.stdout, said.stderr)),
        }
    };
    for name in ["kube-root-ca.crt", "coredns", "kube-proxy"] {
        ensure(can(&format!("configmaps/{name}"), "kube-system")?, || format!("nodes may not read {name}"))?;
    }
    for (what, namespace) in [
        ("configmaps", "kube-system"),
        ("configmaps/extension-apiserver-authentication", "kube-system"),
        ("configmaps/coredns", "default"),
        ("secrets/coredns", "kube-system"),
    ] {
        ensure(!can(what, namespace)?, || format!("nodes may read {what} of {namespace}"))?;
    }
    Ok(())
}

/// The kubelet's first calls since it started last are answered by the first API server: none is refused, and made again
/// after a pause.
pub(super) fn first_calls(cluster: &Cluster) -> Result<(), String> {
    let log = cluster.in_node("journalctl --unit=kubelet --boot --output=cat --no-pager")?;
    let (_, log) = log.rsplit_once("Kubelet version").ok_or("the log does not have the kubelet's start")?;
    let refused: Vec<&str> =
        log.lines().filter(|line| line.contains(":6443") && line.contains("connection refused")).collect();
    ensure(log.contains("Successfully registered node"), || "the log is not complete".to_owned())?;
    ensure(refused.is_empty(), || format!("{} calls were refused: {}", refused.len(), refused[0]))
}

/// A pod that starts before the agent and kube-proxy reaches the API: without their rules, its packets have a way back.
pub(super) fn first_packets(cluster: &Cluster) -> Result<(), String> {
    let pods = cluster.kubectl_json(&["get", "pods", "--namespace=kube-system", "--selector=k8s-app=kube-dns"])?;
    let node = pods["items"][0]["spec"]["nodeName"].as_str().ok_or("no pod of CoreDNS has a node")?;
    let service = cluster.kubectl(&["get", "service", "kubernetes", "--output=jsonpath={.spec.clusterIP}"])?;
    let connect = format!("nsenter --net --target $(pidof coredns) timeout 5 bash -c '</dev/tcp/{service}/443'");
    // The agent sets its rules again within seconds.
    let early = format!("nft flush ruleset && nft --file /etc/coracle/api-service.nft && {connect}");
    let bare = format!("nft flush ruleset && ! {connect} 2>&1");
    docker(&["exec", node, "bash", "-c", &early]).map_err(|error| format!("{node}: {error}"))?;
    docker(&["exec", node, "bash", "-c", &bare]).map_err(|error| format!("{node}, without any rules: {error}"))?;
    cluster.coracle(&["node", "restart", node])?; // what the engine and others had set comes back
    cluster.ready(EVENTUALLY_TIMEOUT)
}

/// The first pods of every `DaemonSet` were there before the scheduler, and their controller has kept them.
pub(super) fn daemons(cluster: &Cluster) -> Result<(), String> {
    for set in ["kube-proxy", "coracle-agent"] {
        let owner = cluster.kubectl_json(&["get", "daemonset", set, "--namespace=kube-system"])?;
        let status = &owner["status"];
        let nodes = &status["desiredNumberScheduled"];
        ensure(status["updatedNumberScheduled"] == *nodes, || format!("{set}: {status}"))?;
        let pods = cluster.kubectl_json(&["get", "pods", "--namespace=kube-system"])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let own: Vec<&Value> = pods
            .iter()
            .filter(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"])
            .collect();
        ensure(nodes.as_u64() == u64::try_from(own.len()).ok(), || format!("{set} has {} pods", own.len()))?;
        for pod in own {
            super::basics::was_early(cluster, pod)?;
        }
    }
    // A change reaches the pod that its controller has not made.
    cluster.kubectl(&["rollout", "restart", "--namespace=kube-system", "daemonset/kube-proxy"])?;
    cluster
        .kubectl(&["rollout", "status", "--namespace=kube-system", "daemonset/kube-proxy", "--timeout=60s"])
        .map(drop)
}
