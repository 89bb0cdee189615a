//! What the outside can reach, and where keys are.

use std::path::{Path, PathBuf};

use crate::harness::cluster::{Cluster, json};
use crate::harness::run::{contains, docker, docker_output, ensure};

/// The API server is published on 127.0.0.1 only.
pub(super) fn api_address(cluster: &Cluster) -> Result<(), String> {
    let published = cluster.host_port(6443)?;
    let port = published.strip_prefix("127.0.0.1:").ok_or_else(|| format!("it is published at {published}"))?;
    let number: u16 = port.parse().map_err(|error| format!("{port}: {error}"))?;
    let all = docker(&["port", &cluster.node(), "6443"])?;
    ensure(all.lines().count() == 1, || format!("it is published at {all}"))?;
    // What the kernel says: listening sockets of this port, by address in hexadecimal.
    let mut listening = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let local = |line: &str| -> Option<String> {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let end = format!(":{number:04X}");
            (fields.get(3) == Some(&"0A") && fields.get(1)?.ends_with(&end)).then(|| fields[1].to_owned())
        };
        listening.extend(text.lines().filter_map(local));
    }
    ensure(listening == [format!("0100007F:{number:04X}")], || format!("the host listens at {listening:?}"))
}

/// The status of an HTTPS request from inside the node, without any credentials.
fn anonymous_status(cluster: &Cluster, url: &str) -> Result<String, String> {
    let script =
        format!("curl --insecure --silent --max-time 10 --output /dev/null --write-out '%{{http_code}}' '{url}'");
    Ok(cluster.in_node(&script)?.trim().to_owned())
}

/// Without credentials the API server tells health, version and cluster-info, as under kubeadm, and nothing else.
pub(super) fn anonymous(cluster: &Cluster) -> Result<(), String> {
    let info = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    for path in ["/livez", "/readyz", "/healthz", "/version", info] {
        let status = anonymous_status(cluster, &format!("https://127.0.0.1:6443{path}"))?;
        ensure(status == "200", || format!("{path} answers {status}"))?;
    }
    let closed =
        ["/api/v1/pods", "/api/v1/nodes", "/api/v1/secrets", "/metrics", "/api", "/apis", "/logs/", "/debug/pprof/"];
    for path in closed {
        let status = anonymous_status(cluster, &format!("https://127.0.0.1:6443{path}"))?;
        ensure(status == "401" || status == "403", || format!("{path} answers {status}"))?;
    }
    Ok(())
}

/// The kubelet refuses anonymous requests, serves with a certificate of the cluster's CA, and has no read-only port.
pub(super) fn kubelet(cluster: &Cluster) -> Result<(), String> {
    let address = cluster.address()?;
    for path in ["pods", "metrics", "runningpods/", "configz", "healthz", "logs/"] {
        let status = anonymous_status(cluster, &format!("https://{address}:10250/{path}"))?;
        ensure(status == "401" || status == "403", || format!("/{path} answers {status}"))?;
    }
    let ca = "/etc/kubernetes/pki/ca.crt";
    cluster.in_node(&format!("curl --silent --cacert {ca} --output /dev/null https://{address}:10250/"))?;
    let open = docker_output(&["exec", &cluster.node(), "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/10255"])?;
    ensure(open.code != 0, || "the read-only port 10255 is open".to_owned())?;
    let ports = ["2379", "2380", "10257", "10259"];
    for port in ports {
        let script = format!("curl --insecure --silent --max-time 5 https://{address}:{port}/metrics; true");
        let said = cluster.in_node(&script)?;
        ensure(!said.contains("# HELP"), || format!("port {port} tells its metrics to everybody"))?;
    }
    Ok(())
}

/// Every file with a key in it can be read by root alone.
pub(super) fn keys(cluster: &Cluster) -> Result<(), String> {
    let find = "find /etc /var/lib/kubelet /root /run -xdev -path /var/lib/kubelet/pods -prune -o -type f";
    let grep = "-exec grep --files-with-matches --extended-regexp 'PRIVATE KEY|client-key-data' {} +";
    let all = cluster.in_node(&format!("{find} -size -64k {grep} || true"))?;
    for path in ["/etc/kubernetes/pki/ca.key", "/etc/kubernetes/admin.conf", "/var/lib/kubelet/pki/kubelet.key"] {
        contains(&all, path)?;
    }
    let open = cluster.in_node(&format!("{find} -size -64k -perm /077 {grep} || true"))?;
    ensure(open.trim().is_empty(), || format!("others may read {open}"))
}

/// No key material in process arguments and environments, labels, what `docker inspect` shows, and logs.
pub(super) fn secrets_stay(cluster: &Cluster) -> Result<(), String> {
    let node = cluster.node();
    let network = format!("coracle-{}", cluster.name);
    let volume = docker(&["volume", "ls", "--quiet", &format!("--filter=label=dev.coracle.cluster={}", cluster.name)])?;
    let mut inspected = docker(&["inspect", &node])?;
    inspected.push_str(&docker(&["network", "inspect", &network])?);
    for volume in volume.lines() {
        inspected.push_str(&docker(&["volume", "inspect", volume])?);
    }
    without_keys(cluster, "what the engine shows", &inspected)?;
    let logs = docker_output(&["logs", &node])?;
    without_keys(cluster, "the container's log", &format!("{}{}", logs.stdout, logs.stderr))?;
    without_keys(cluster, "the journal", &cluster.in_node("journalctl --no-pager")?)?;
    without_keys(cluster, "pod logs", &cluster.in_node("cat /var/log/pods/*/*/*.log")?)?;
    let processes =
        cluster.in_node("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; true")?;
    contains(&processes, "--client-ca-file=")?;
    without_keys(cluster, "process arguments and environments", &processes)?;
    without_keys(cluster, "what `create` printed", &cluster.said.borrow())
}

/// Fails when a text has any key of the node in it, as PEM, or its base64 inside a kubeconfig.
pub(super) fn without_keys(cluster: &Cluster, what: &str, text: &str) -> Result<(), String> {
    ensure(!text.contains("PRIVATE KEY"), || format!("{what} has a private key in it"))?;
    // The second line of a PEM file is key material; so is a stretch in the middle of `client-key-data`.
    let script = "for file in /etc/kubernetes/pki/*.key /etc/kubernetes/pki/etcd/*.key /var/lib/kubelet/pki/kubelet.key; \
        do sed -n 2p $file; done; sed -n 's/.*client-key-data: //p' /etc/kubernetes/*.conf | cut -c 60-120";
    let keys = cluster.in_node(script)?;
    ensure(keys.lines().count() > 10, || format!("there are only {} keys", keys.lines().count()))?;
    for key in keys.lines().filter(|line| line.len() > 20) {
        ensure(!text.contains(key), || format!("{what} has key material in it"))?;
    }
    Ok(())
}

/// Fails when a text has a private key of a cluster that is gone: as PEM, or inside a kubeconfig.
pub(super) fn without_private_keys(what: &str, text: &str) -> Result<(), String> {
    // `LS0tLS1CRUdJTi` is the beginning of a key in base64.
    let marks = ["PRIVATE KEY-----", "client-key-data: LS0t", "\"key\": \"LS0t"];
    marks.iter().try_for_each(|mark| ensure(!text.contains(mark), || format!("{what} has `{mark}` in it")))
}

/// Certificates live for about ten years, and the API server's has every name that it is called by.
pub(super) fn certificates(cluster: &Cluster) -> Result<(), String> {
    let node = cluster.node();
    let text = cluster.in_node("kubeadm certs check-expiration --output json 2>/dev/null")?;
    let list = json(&text)?;
    let (certificates, authorities) = (list["certificates"].as_array(), list["certificateAuthorities"].as_array());
    let both: Vec<_> = certificates.into_iter().chain(authorities).flatten().collect();
    ensure(both.len() >= 13, || format!("kubeadm knows only {} certificates", both.len()))?;
    for certificate in both {
        let days = certificate["residualTime"].as_i64().unwrap_or_default() / 86400;
        ensure(certificate["missing"] == false, || format!("{} is missing", certificate["name"]))?;
        ensure((3640..=3660).contains(&days), || format!("{} lives for {days} days", certificate["name"]))?;
    }
    let address = cluster.address()?;
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "10.96.0.1",
        &node,
        &address,
    ];
    for name in names {
        // Connects to the node whatever the name, and verifies the certificate for the name.
        let script = format!(
            "curl --silent --show-error --fail --max-time 10 --cacert /etc/kubernetes/pki/ca.crt \
             --connect-to ::{address}:6443 https://{name}:6443/livez"
        );
        cluster.in_node(&script)?;
    }
    let script = "openssl x509 -noout -text -in /etc/kubernetes/pki/apiserver.crt";
    let text = cluster.in_node(script)?;
    contains(&text, "id-ecPublicKey")?;
    contains(&text, "TLS Web Server Authentication")
}

/// All files below a directory.
pub(super) fn files_below(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// What is in files, one after the other.
pub(super) fn content(files: &[PathBuf]) -> String {
    files
        .iter()
        .filter_map(|path| std::fs::read(path).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect()
}
