//! What one does with a cluster that lives: read logs, look into a node, copy files, watch.

use std::fs;
use std::io::{Seek, Write};
use std::time::Duration;

use serde_json::Value;

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, json};
use crate::harness::run::{LIMIT, contains, docker, ensure, eventually, run, start};

/// `logs` of units, pods and containers, also while the API does not answer.
pub(super) fn logs(cluster: &Cluster) -> Result<(), String> {
    let node = cluster.node();
    let journal = cluster.coracle(&["logs", &node])?;
    contains(&journal, "kubelet[")?;
    contains(&journal, "containerd[")?;
    let only = cluster.coracle(&["logs", "--tail=5", &node, "kubelet"])?;
    ensure(only.lines().count() <= 5 && !only.contains("containerd["), || format!("it printed {only}"))?;
    // The API server is frozen: its log is read all the same, and so is that of etcd.
    docker(&["exec", &node, "pkill", "-STOP", "-f", "kube-apiserver.*etcd-servers"])?;
    let texts = ["kube-apiserver", "etcd", &format!("etcd-{node}")].map(|word| cluster.coracle(&["logs", &node, word]));
    docker(&["exec", &node, "pkill", "-CONT", "-f", "kube-apiserver.*etcd-servers"])?;
    let [api, etcd, pod] = texts;
    contains(&api?, "Serving securely")?;
    let (etcd, pod) = (etcd?, pod?);
    contains(&etcd, "{\"level\":")?;
    ensure(!etcd.contains(" stderr F "), || "the lines are as the runtime writes them".to_owned())?;
    ensure(pod.starts_with(&etcd[..200.min(etcd.len())]), || "the pod has another log than its container".to_owned())?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    // Several containers of one name: each line says whose it is.
    cluster.kubectl(&["rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=100s"])?;
    contains(&cluster.coracle(&["logs", &node, "coredns"])?, "CoreDNS-")?;
    for (arguments, part) in [
        (&["logs", &node, "kubelt"][..], "hint: `kubelet` is one".to_owned()),
        (&["logs", &node, "no-such-thing"], "units: ".to_owned()),
        (&["logs", "--name", &cluster.name, "control-plane"], format!("hint: `{node}` is one")),
    ] {
        let output = cluster.coracle_output(arguments)?;
        ensure(output.code == 3, || output.told())?;
        contains(&output.stderr, &part)?;
    }
    Ok(())
}

/// `logs --follow` shows what comes, also of the container's next start, and leaves nothing running in the node.
pub(super) fn logs_follow(cluster: &Cluster) -> Result<(), String> {
    let node = cluster.node();
    let name = format!("t-says-{}", std::process::id());
    let script = format!("import time; print('{name} starts', flush=True); time.sleep(3); exit(1)");
    let image = format!("--image={}", super::hello::IMAGE);
    super::hello::build()?;
    cluster.coracle(&["load", "docker-image", super::hello::IMAGE])?;
    cluster.kubectl(&[
        "run",
        &name,
        &image,
        "--image-pull-policy=Never",
        "--command",
        "--",
        "python3",
        "-c",
        &script,
    ])?;
    eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.coracle(&["logs", &node, &name])?, "starts"))?;
    let following = start(cluster.command(&["logs", "--follow", &node, &name]), None)?;
    let journal = start(cluster.command(&["logs", "-f", "--since=1s", &node, "kubelet"]), None)?;
    let line = format!("{name} starts\n");
    eventually(EVENTUALLY_TIMEOUT, || {
        let said = following.said();
        ensure(said.matches(&line).count() >= 2, || format!("only one start was seen: {said}"))
    })?;
    eventually(EVENTUALLY_TIMEOUT, || {
        ensure(journal.said().contains(&name), || "the kubelet says nothing of the pod".to_owned())
    })?;
    contains(&cluster.coracle(&["logs", "--previous", &node, &name])?, &line)?;
    for running in [following, journal] {
        running.signal("INT")?;
        let output = running.finish(LIMIT)?;
        ensure(output.code == 130, || output.told())?;
    }
    cluster.kubectl(&["delete", "pod", &name, "--grace-period=1"])?;
    eventually(Duration::from_secs(30), || {
        let left = cluster.in_node("pgrep --list-full 'tail|journalctl' || true")?;
        ensure(left.trim().is_empty(), || format!("left in the node: {left}"))
    })
}

/// `shell`: exit codes, standard input, and a terminal whose size the node knows.
pub(super) fn shell(cluster: &Cluster) -> Result<(), String> {
    let node = cluster.node();
    let output = cluster.coracle_output(&["shell", &node, "--", "sh", "-c", "hostname; echo no >&2; exit 7"])?;
    ensure(output.code == 7, || output.told())?;
    ensure(output.stdout == format!("{node}\n") && output.stderr == "no\n", || output.told())?;
    ensure(cluster.coracle_output(&["shell", &node, "--", "no-such-program"])?.code != 0, || {
        "it succeeded".to_owned()
    })?;
    let mut input = tempfile::tempfile().map_err(|error| error.to_string())?;
    // More than any buffer on the way has room for, with bytes of every value.
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[(number % 3) as usize]).collect();
    input.write_all(&content).and_then(|()| input.rewind()).map_err(|error| error.to_string())?;
    let sums = cluster.coracle_reading(&["shell", &node, "--", "md5sum"], input)?;
    let path = cluster.home.join("content").display().to_string();
    fs::write(&path, &content).map_err(|error| error.to_string())?;
    let own = run(cluster.shell(&format!("md5sum <{path}")), None, LIMIT)?.ok()?;
    ensure(sums == own, || format!("{sums} is not {own}"))?;
    let mut input = tempfile::tempfile().map_err(|error| error.to_string())?;
    input.write_all(b"cd /etc\npwd\nexit 3\n").and_then(|()| input.rewind()).map_err(|error| error.to_string())?;
    let output = run(cluster.command(&["shell", &node]), Some(input), LIMIT)?;
    ensure(output.code == 3 && output.stdout == "/etc\n", || output.told())?;
    terminal(cluster)
}

/// A shell with a terminal, which `script` makes.
fn terminal(cluster: &Cluster) -> Result<(), String> {
    let mut input = tempfile::tempfile().map_err(|error| error.to_string())?;
    let typed = b"sleep 1; stty size; echo in $PWD as $TERM\nexit 5\n";
    input.write_all(typed).and_then(|()| input.rewind()).map_err(|error| error.to_string())?;
    let inner = format!("stty rows 33 cols 111; {} shell {}", crate::harness::coracle(), cluster.node());
    let mut command = cluster.shell(&format!("script --quiet --return --command '{inner}' /dev/null"));
    command.env("TERM", "xterm-256color");
    let output = run(command, Some(input), LIMIT)?;
    ensure(output.code == 5, || output.told())?;
    contains(&output.stdout, "33 111")?;
    contains(&output.stdout, "in /root as xterm-256color")
}

/// `cp`: files and directories both ways, also where only the node itself sees them.
pub(super) fn cp(cluster: &Cluster) -> Result<(), String> {
    let node = cluster.node();
    let place = cluster.home.join("copies");
    fs::create_dir_all(place.join("tree/deep")).map_err(|error| error.to_string())?;
    fs::write(place.join("tree/deep/file"), "from the host\n").map_err(|error| error.to_string())?;
    let at = |name: &str| place.join(name).display().to_string();
    let inside = |path: &str| format!("{node}:{path}");
    // `/tmp` and `/run` of a node are in memory, where the engine's own copy would end up elsewhere.
    for directory in ["/tmp", "/run", "/var/tmp", "/opt"] {
        let target = format!("{directory}/t-copy-{}", std::process::id());
        cluster.coracle(&["cp", &at("tree"), &inside(&target)])?;
        let found = cluster.in_node(&format!("cat {target}/deep/file; stat --format=%U {target}/deep/file"))?;
        ensure(found == "from the host\nroot\n", || format!("{target} has {found}"))?;
        let back = at(&format!("back{}", directory.replace('/', "-")));
        cluster.coracle(&["cp", &inside(&format!("{target}/.")), &back])?;
        let content = fs::read_to_string(format!("{back}/deep/file")).map_err(|error| error.to_string())?;
        ensure(content == "from the host\n", || format!("{back} has {content}"))?;
        cluster.in_node(&format!("rm -r {target}"))?;
    }
    // A link that was named is followed.
    cluster.in_node("ln -sf /etc/kubernetes/admin.conf /tmp/admin.conf")?;
    cluster.coracle(&["cp", &inside("/tmp/admin.conf"), &at("")])?;
    contains(&fs::read_to_string(at("admin.conf")).map_err(|error| error.to_string())?, "kind: Config")?;
    let tar = cluster.shell(&format!(
        "{} cp {} - | tar --list",
        crate::harness::coracle(),
        inside("/etc/kubernetes/manifests")
    ));
    contains(&run(tar, None, LIMIT)?.ok()?, "manifests/etcd.yaml")?;
    let pipe =
        format!("tar --create --directory {} tree | {} cp - {}", at(""), crate::harness::coracle(), inside("/tmp"));
    run(cluster.shell(&pipe), None, LIMIT)?.ok()?;
    contains(&cluster.in_node("cat /tmp/tree/deep/file && rm -r /tmp/tree")?, "from the host")?;
    for (arguments, code, part) in [
        (["cp", &inside("/no/such"), &at("x")], 3, format!("there is no `/no/such`\n  node: {node}")),
        (["cp", &at("tree"), &inside("/no/such/x")], 3, format!("there is no directory `/no/such`\n  node: {node}")),
        (["cp", &at("none"), &inside("/tmp")], 2, format!("there is no `{}` on this host", at("none"))),
        (["cp", &at("tree"), &inside("/etc/hostname")], 2, "it is a file".to_owned()),
        (["cp", &at("tree"), &at("x")], 2, "neither path is one of a node".to_owned()),
    ] {
        let output = cluster.coracle_output(&arguments)?;
        ensure(output.code == code, || output.told())?;
        contains(&output.stderr, &part)?;
    }
    Ok(())
}

/// `events`: warnings are marked, the newest one is the last, and `--watch` shows what comes.
pub(super) fn events(cluster: &Cluster) -> Result<(), String> {
    let namespace = format!("t-events-{}", std::process::id());
    cluster.kubectl(&["create", "namespace", &namespace])?;
    let watching = start(cluster.command(&["events", "--namespace", &namespace, "--watch", "-o", "json"]), None)?;
    let pod = ["run", "absent", "--image=localhost:1/absent", "--namespace", &namespace];
    // Its ServiceAccount comes a moment later.
    eventually(EVENTUALLY_TIMEOUT, || cluster.kubectl(&pod))?;
    let text = eventually(EVENTUALLY_TIMEOUT, || {
        let text = cluster.coracle(&["events", "--namespace", &namespace])?;
        let warning = text.lines().find(|line| line.starts_with('!') && line.contains("pod/absent"));
        ensure(warning.is_some(), || format!("no warning in {text}"))?;
        Ok(text)
    })?;
    ensure(text.contains("Scheduled") && !text.contains("NAMESPACE"), || format!("it printed {text}"))?;
    contains(&cluster.coracle(&["events", "-A"])?, &namespace)?;
    let events = cluster.coracle_json(&["events", "--namespace", &namespace, "-o", "json"])?;
    let times: Vec<&str> = events.as_array().into_iter().flatten().filter_map(|event| event["time"].as_str()).collect();
    ensure(times.len() >= 2 && times.is_sorted_by_key(|time| &time[..19]), || format!("times are {times:?}"))?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let said = watching.said();
        let found: Result<Vec<Value>, String> = said.lines().map(json).collect();
        let is_warning = |event: &Value| event["warning"] == true && event["name"] == "absent";
        ensure(found?.iter().any(is_warning), || format!("it watched {said}"))
    })?;
    watching.signal("INT")?;
    let output = watching.finish(LIMIT)?;
    ensure(output.code == 130, || output.told())?;
    cluster.kubectl(&["delete", "namespace", &namespace, "--wait=false"]).map(drop)
}

/// `top`: the engine's measurements, without a metrics server.
pub(super) fn top(cluster: &Cluster) -> Result<(), String> {
    let text = cluster.coracle(&["top"])?;
    contains(&text, &cluster.node())?;
    let top = cluster.coracle_json(&["top", "-o", "json"])?;
    let node = &top["containers"][0];
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    ensure(node["name"] == cluster.node() && number(&node["memory"]) > 100_000_000, || format!("it says {top}"))?;
    ensure(number(&node["memory"]) < number(&node["memoryLimit"]), || format!("it says {top}"))?;
    ensure(number(&top["milliCpus"]) > 0 && top["memory"] == node["memory"], || format!("it says {top}"))?;
    // A processor that is busy is seen.
    let busy = start(
        cluster.command(&["shell", &cluster.node(), "--", "timeout", "20", "sh", "-c", "while :; do :; done"]),
        None,
    )?;
    let seen = eventually(Duration::from_secs(15), || {
        let top = cluster.coracle_json(&["top", "-o", "json"])?;
        ensure(number(&top["milliCpus"]) > 300, || format!("it says {top}"))
    });
    drop(busy);
    seen
}

/// What a real bash completes: names of what exists, quickly.
pub(super) fn completion(cluster: &Cluster) -> Result<(), String> {
    let path = std::path::Path::new(crate::harness::coracle()).parent().map(|path| path.display().to_string());
    let complete = |words: &[&str]| -> Result<String, String> {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "PATH={}:$PATH; source <(coracle completion bash); COMP_WORDS=(coracle {}); COMP_CWORD={}; COMP_TYPE=9
             complete -p coracle >/dev/null; _clap_complete_coracle coracle {} coracle; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            path.clone().unwrap_or_default(),
            quoted.join(" "),
            words.len(),
            quoted.last().cloned().unwrap_or_default(),
        );
        run(cluster.shell(&script), None, LIMIT)?.ok()
    };
    let has = |words: &[&str], expected: &str| {
        // A shell waits for a second; on a busy machine a node may need longer.
        eventually(EVENTUALLY_TIMEOUT, || {
            let found = complete(words)?;
            ensure(found.lines().any(|line| line == expected), || format!("{words:?} gave {found}"))
        })
    };
    let node = cluster.node();
    has(&["sta"], "status")?;
    has(&["delete", "cluster", &cluster.name[..6]], &cluster.name)?;
    has(&["status", "--name", ""], &cluster.name)?;
    has(&["logs", &cluster.name], &node)?;
    has(&["logs", &node, "kube-api"], "kube-apiserver")?;
    has(&["logs", &node, "kube"], "kubelet")?;
    has(&["node", "stop", &cluster.name], &node)?;
    has(&["cp", &cluster.name], &format!("{node}:"))?;
    has(&["addon", "enable", "ing"], "ingress")?;
    has(&["url", "--name", &cluster.name, "--namespace", "kube-system", "kube"], "kube-dns")?;
    has(
        &["load", "docker-image", "coracle/no"],
        docker(&["images", "--format={{.Repository}}:{{.Tag}}", "coracle/node"])?.lines().next().unwrap_or_default(),
    )?;
    // Without an engine there is nothing to complete, and nothing to say.
    let mut command = cluster.shell(&format!(
        "CORACLE_COMPLETE=bash _CLAP_COMPLETE_INDEX=2 {} -- coracle stop ''",
        crate::harness::coracle()
    ));
    command.env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let output = run(command, None, LIMIT)?;
    ensure(output.code == 0 && output.stderr.is_empty() && !output.stdout.contains(&cluster.name), || output.told())
}

/// Who wants something of a paused node is told what resumes it; `status --watch` shows how it changes.
pub(super) fn paused_node(cluster: &Cluster) -> Result<(), String> {
    let node = cluster.node();
    let watching = start(cluster.command(&["status", "--watch"]), None)?;
    eventually(EVENTUALLY_TIMEOUT, || contains(&watching.said(), "running"))?;
    let before = watching.said();
    cluster.coracle(&["pause"])?;
    for arguments in [&["logs", &node][..], &["shell", &node], &["cp", &format!("{node}:/tmp/x"), "x"], &["events"]] {
        let output = cluster.coracle_output(arguments)?;
        ensure(output.code == 5, || output.told())?;
        contains(&output.stderr, &format!("coracle unpause {}", cluster.name))?;
    }
    let top = cluster.coracle(&["top"])?;
    contains(&top, "paused")?;
    let seen = eventually(EVENTUALLY_TIMEOUT, || {
        let said = watching.said();
        contains(&said[before.len()..], "paused")
    });
    cluster.coracle(&["unpause"])?;
    seen?;
    watching.signal("INT")?;
    let output = watching.finish(LIMIT)?;
    ensure(output.code == 130, || output.told())?;
    cluster.ready(EVENTUALLY_TIMEOUT)
}
