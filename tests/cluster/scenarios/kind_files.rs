//! Configuration files of kind as people write them, in `tests/kind-files`: what they say is seen in the cluster.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Group;
use crate::harness::chance::rounds;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, fetch};
use crate::harness::run::{contains, docker, ensure, eventually, free_port};

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../kind-files/", $name, ".yaml"))
    };
}

/// Each scenario creates and deletes a cluster of its own.
pub(crate) const KIND_FILES: Group = Group {
    name: "kind-files",
    environment: &[],
    create: mistakes,
    together: &[],
    scenarios: &[
        ("audit-policy", audit_policy),
        ("extra-args", extra_args),
        ("etcd-in-memory", etcd_in_memory),
        ("kubelet-patch", kubelet_patch),
        ("certificate-names", certificate_names),
        ("ingress-ready", ingress_ready),
        ("zones", zones),
        ("no-cni-no-proxy", no_cni_no_proxy),
        ("ha-dual", ha_dual),
        ("containerd", containerd),
        ("old-version", old_version),
        ("mounts", mounts),
        ("patches", directory_of_patches),
        ("converted", converted),
        ("init", init),
    ],
};

/// Creates a cluster from a file, checks it and deletes it.
fn with(cluster: &Cluster, text: &str, check: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    cluster.create(text, &[])?;
    let checked = check();
    cluster.coracle(&["delete", "cluster"])?;
    checked
}

fn mistakes(cluster: &Cluster) -> Result<(), String> {
    let path = cluster.write("mistakes.yaml", file!("mistakes"))?;
    let output = cluster.coracle_output(&["create", "cluster", "--config", &path])?;
    ensure(output.code == 2, || output.told())?;
    for part in ["6 problems", "mistakes.yaml:5:9", "`worker`", "`extraMounts`", "no `hostPath`", "not YAML"] {
        contains(&output.stderr, part)?;
    }
    ensure(docker(&["ps", "--all", "--quiet", "--filter", &format!("name={}", cluster.name)])?.is_empty(), || {
        "something was created".to_owned()
    })
}

fn audit_policy(cluster: &Cluster) -> Result<(), String> {
    cluster.write("audit-policy.file.yaml", file!("audit-policy.file"))?;
    with(cluster, file!("audit-policy"), || {
        let log = "cat /var/log/kubernetes/kube-apiserver-audit.log";
        let lines = eventually(EVENTUALLY_TIMEOUT, || {
            let lines = cluster.in_node(log)?;
            ensure(lines.lines().count() > 10, || format!("the audit log has {} lines", lines.lines().count()))?;
            Ok(lines)
        })?;
        contains(&lines, "\"level\":\"Metadata\"")?;
        ensure(!lines.contains("\"level\":\"Request"), || "the policy is not honoured".to_owned())
    })
}

/// The command line of a component of the first node, one argument a line.
fn flags(cluster: &Cluster, component: &str) -> Result<String, String> {
    let script = format!("pid=$(pgrep --oldest --full '^{component} ') && tr '\\0' '\\n' < /proc/$pid/cmdline");
    eventually(EVENTUALLY_TIMEOUT, || cluster.in_node(&script))
}

/// kubeadm's directory of patches, through a mount.
fn directory_of_patches(cluster: &Cluster) -> Result<(), String> {
    let directory = cluster.home.join("patches");
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let scheduler = |field: &str| {
        format!("spec:\n  containers:\n  - name: kube-scheduler\n    {field}:\n      requests: {{cpu: 123m}}\n")
    };
    for (name, text) in [
        ("kube-scheduler0+strategic.yaml", scheduler("resorces").as_str()),
        (
            "kube-apiserver1+json.yaml",
            "- {op: add, path: /spec/containers/0/command/-, value: --max-requests-inflight=321}\n",
        ),
        ("kubeletconfiguration.yaml", "maxPods: 77\n"),
        (
            "corednsdeployment+merge.json",
            "{\"spec\": {\"template\": {\"metadata\": {\"labels\": {\"patched\": \"yes\"}}}}}",
        ),
        ("README.md", "not a patch"),
    ] {
        cluster.write(&format!("patches/{name}"), text)?;
    }
    let text = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nkubeadmConfigPatches:\n- |\n  kind: InitConfiguration\n  \
        patches: {directory: /files/patches}\nnodes:\n- role: control-plane\n  extraMounts:\n  \
        - {hostPath: HOME, containerPath: /files}\n";
    let text = text.replace("HOME", &cluster.home.display().to_string());
    let path = cluster.write("patches.yaml", &text)?;
    let refused = cluster.coracle_output(&["create", "cluster", "--config", &path])?;
    ensure(refused.code == 2, || refused.told())?;
    contains(&refused.stderr, "kube-scheduler0+strategic.yaml:4:5")?;
    contains(&refused.stderr, "did you mean `resources`?")?;
    cluster.write("patches/kube-scheduler0+strategic.yaml", &scheduler("resources"))?;
    with(cluster, &text, || {
        let pod = format!("pod/kube-scheduler-{}", cluster.node());
        let request = "jsonpath={.spec.containers[0].resources.requests.cpu}";
        // The pod runs before the API knows of it.
        let get = ["get", "--namespace=kube-system", &pod, "--output", request];
        let cpu = eventually(EVENTUALLY_TIMEOUT, || cluster.kubectl(&get))?;
        ensure(cpu == "123m", || cpu)?;
        contains(&flags(cluster, "kube-apiserver")?, "--max-requests-inflight=321")?;
        ensure(configuration(cluster, &cluster.node())?["maxPods"] == 77, || "the kubelet has no patch".to_owned())?;
        let dns =
            cluster.kubectl(&["get", "pods", "--namespace=kube-system", "--selector=patched=yes", "--output=name"])?;
        contains(&dns, "pod/coredns-")
    })
}

fn extra_args(cluster: &Cluster) -> Result<(), String> {
    // With this plug-in, no pod starts where its image cannot be pulled.
    let path = cluster.write("always-pull.yaml", file!("extra-args-list"))?;
    let began = Instant::now();
    let output = cluster.coracle_output(&["create", "cluster", "--config", &path, "--wait=5m"])?;
    ensure(output.code == 3 && began.elapsed() < Duration::from_secs(120), || output.told())?;
    contains(&output.stderr, "error[image-missing]")?;
    contains(&output.stderr, "remove `AlwaysPullImages`")?;
    with(cluster, &file!("extra-args-list").replace(",AlwaysPullImages", ""), || {
        let flags = flags(cluster, "kube-apiserver")?;
        ensure(flags.lines().filter(|flag| flag.starts_with("--service-account-issuer=")).count() == 2, || {
            flags.clone()
        })?;
        contains(&flags, "--enable-admission-plugins=NodeRestriction,ValidatingAdmissionWebhook")?;
        let address = cluster.address()?;
        contains(&fetch(&format!("http://{address}:2381/metrics"))?, "etcd_server_has_leader 1")?;
        // kube-proxy may not listen yet where the cluster's DNS has its first answers.
        eventually(EVENTUALLY_TIMEOUT, || contains(&fetch(&format!("http://{address}:10249/healthz"))?, "ok"))?;
        let listeners = cluster.in_node("ss --no-header --listening --tcp --numeric 2>/dev/null || netstat -ltn")?;
        for port in ["10257", "10259"] {
            let wanted = [format!("*:{port}"), format!("0.0.0.0:{port}")];
            ensure(wanted.iter().any(|place| listeners.contains(place)), || format!("{port}: {listeners}"))?;
        }
        Ok(())
    })
}

fn etcd_in_memory(cluster: &Cluster) -> Result<(), String> {
    with(cluster, file!("etcd-in-memory"), || {
        contains(&cluster.in_node("test -d /tmp/etcd/member && stat --file-system --format=%T /tmp/etcd")?, "tmpfs")?;
        let worker = format!("{}-worker", cluster.name);
        let config = configuration(cluster, &worker)?;
        ensure(config["maxPods"] == 42 && config["systemReserved"]["memory"] == "2Gi", || config.to_string())?;
        ensure(configuration(cluster, &cluster.node())?["maxPods"] == 110, || "the control plane has it too".to_owned())
    })
}

/// The configuration that a kubelet really has.
fn configuration(cluster: &Cluster, node: &str) -> Result<Value, String> {
    let path = format!("--raw=/api/v1/nodes/{node}/proxy/configz");
    let text = cluster.kubectl(&["get", &path])?;
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    Ok(value["kubeletconfig"].clone())
}

fn kubelet_patch(cluster: &Cluster) -> Result<(), String> {
    with(cluster, file!("kubelet-patch"), || {
        for node in [cluster.node(), format!("{}-worker", cluster.name)] {
            let config = configuration(cluster, &node)?;
            let is_set = config["maxPods"] == 500
                && config["serializeImagePulls"] == false
                && config["logging"]["verbosity"] == 4
                && config["evictionHard"]["nodefs.available"] == "0%";
            ensure(is_set, || format!("{node}: {config}"))?;
        }
        Ok(())
    })
}

fn certificate_names(cluster: &Cluster) -> Result<(), String> {
    // A port that no other test has.
    with(cluster, &file!("json6902-node").replace("16443", "26443"), || {
        let names = cluster.in_node(
            "openssl s_client -connect 127.0.0.1:6443 </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName",
        )?;
        contains(&names, "DNS:ci.example.com")?;
        contains(&names, "IP Address:192.0.2.10")?;
        contains(&cluster.kubectl(&["config", "view", "--minify"])?, "https://127.0.0.1:26443")
    })
}

fn ingress_ready(cluster: &Cluster) -> Result<(), String> {
    let text =
        file!("ingress-ready").replace("hostPort: 80", "hostPort: 28080").replace("hostPort: 443", "hostPort: 28443");
    with(cluster, &text, || {
        let nodes = cluster.kubectl(&["get", "nodes", "--selector=ingress-ready=true", "--output=name"])?;
        ensure(nodes.trim() == format!("node/{}", cluster.node()), || nodes.clone())?;
        cluster.in_node("printf 'HTTP/1.0 200 OK\\r\\n\\r\\nHello, world!' > /tmp/page")?;
        cluster
            .in_node("setsid socat TCP-LISTEN:80,fork,reuseaddr OPEN:/tmp/page,rdonly >/dev/null 2>&1 & sleep 0.5")?;
        contains(&eventually(EVENTUALLY_TIMEOUT, || fetch("http://127.0.0.1:28080/"))?, "Hello")
    })
}

fn zones(cluster: &Cluster) -> Result<(), String> {
    with(cluster, file!("zones"), || {
        for zone in ["site-a", "site-b"] {
            let selector =
                format!("--selector=topology.kubernetes.io/zone={zone},topology.kubernetes.io/region=metro-1");
            let nodes = cluster.kubectl(&["get", "nodes", &selector, "--output=name"])?;
            ensure(nodes.lines().count() == 2, || format!("{zone}: {nodes}"))?;
        }
        Ok(())
    })
}

fn no_cni_no_proxy(cluster: &Cluster) -> Result<(), String> {
    with(cluster, file!("no-cni-no-proxy"), || {
        contains(&cluster.said.borrow(), "CNI")?;
        let sets = cluster.kubectl(&["get", "daemonsets", "--all-namespaces", "--output=name"])?;
        ensure(!sets.contains("kube-proxy"), || sets.clone())?;
        contains(&cluster.kubectl(&["get", "nodes"])?, "NotReady")
    })
}

fn ha_dual(cluster: &Cluster) -> Result<(), String> {
    let home = cluster.home.display().to_string();
    cluster.write("data", "")?;
    // It needs a shared mount, which not every machine has.
    let text = file!("ha-dual").replace("HOSTDIR", &home).replace("    propagation: HostToContainer\n", "");
    with(cluster, &text, || {
        let planes =
            cluster.kubectl(&["get", "nodes", "--selector=node-role.kubernetes.io/control-plane", "--output=name"])?;
        ensure(planes.lines().count() == 3, || planes.clone())?;
        contains(&cluster.kubectl(&["get", "servicecidrs", "kubernetes", "--output=yaml"])?, "fd00:10:96::/112")?;
        for component in ["kube-apiserver", "kube-scheduler", "kube-controller-manager"] {
            contains(&flags(cluster, component)?, "--feature-gates=ImageVolume=true")?;
        }
        contains(&cluster.kubectl(&["api-versions"])?, "resource.k8s.io/v1")
    })
}

/// The patches of both pages of kind about registries, and one of something else.
fn containerd(cluster: &Cluster) -> Result<(), String> {
    let text = format!(
        "{}\n- |-\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    max_concurrent_downloads = 7\n",
        file!("local-registry-old").trim_end()
    );
    with(cluster, &text, || {
        let hosts = cluster.in_node("cat /etc/containerd/certs.d/localhost:5001/hosts.toml")?;
        contains(&hosts, "[host.\"http://kind-registry:5000\"]")?;
        let dump = cluster.in_node("containerd config dump")?;
        contains(&dump, "max_concurrent_downloads = 7")?;
        contains(&dump, "config_path = '/etc/containerd/certs.d'")
    })
}

/// The version before the current one, with a port of UDP.
fn old_version(cluster: &Cluster) -> Result<(), String> {
    let port = free_port()?;
    let text = file!("v1alpha3").replace("hostPort: 30950", &format!("hostPort: {port}"));
    with(cluster, &text, || {
        contains(&cluster.said.borrow(), "kind's old version v1alpha3")?;
        contains(&flags(cluster, "kube-apiserver")?, "--profiling=false")?;
        cluster.in_node("setsid socat UDP-LISTEN:30950,fork EXEC:'echo answered' >/dev/null 2>&1 & sleep 0.2")?;
        let text = |error: std::io::Error| error.to_string();
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(text)?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).map_err(text)?;
        eventually(EVENTUALLY_TIMEOUT, || {
            socket.send_to(b"asked", ("127.0.0.1", port)).map_err(text)?;
            let mut answer = [0; 64];
            let length = socket.recv(&mut answer).map_err(text)?;
            contains(&String::from_utf8_lossy(&answer[..length]), "answered")
        })
    })
}

/// What people mount for plugins of storage, and for identity providers.
const MOUNTS: &str = "kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
kubeadmConfigPatches:
- |
  kind: ClusterConfiguration
  apiServer: {extraArgs: {service-account-signing-key-file: /etc/kubernetes/pki/sa.key}}
nodes:
- role: control-plane
  extraMounts:
  - {hostPath: HOSTDIR/kubelet, containerPath: /var/lib/kubelet}
  - {hostPath: /dev, containerPath: /dev}
  - {hostPath: HOSTDIR/oidc.crt, containerPath: /etc/kubernetes/pki/oidc.crt}
";

fn mounts(cluster: &Cluster) -> Result<(), String> {
    let home = cluster.home.display().to_string();
    std::fs::create_dir_all(cluster.home.join("kubelet")).map_err(|error| error.to_string())?;
    cluster.write("oidc.crt", "of a provider")?;
    // A second cluster finds what the kubelet of the first one has left.
    for _ in 0..rounds(1, 2) {
        with(cluster, &MOUNTS.replace("HOSTDIR", &home), || {
            contains(&cluster.in_node("cat /etc/kubernetes/pki/oidc.crt")?, "of a provider")?;
            ensure(cluster.home.join("kubelet/pods").is_dir(), || "the kubelet writes elsewhere".to_owned())?;
            let devices = cluster.in_node("ls /dev | wc -l")?;
            ensure(devices.trim().parse().is_ok_and(|count: usize| count > 20), || devices.clone())
        })?;
        let left = std::fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        ensure(!left.contains(&format!("{home}/kubelet")), || "something is still mounted on this host".to_owned())?;
    }
    Ok(())
}

/// A file with a little of what is translated.
const SMALL: &str = r#"kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  maxPods: 55
- |
  kind: ClusterConfiguration
  apiServer: {extraArgs: {profiling: "false"}}
nodes:
- role: control-plane
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration: {kubeletExtraArgs: {node-labels: "converted=yes"}}
"#;

/// A file of kind in our own format makes the cluster that the file of kind describes.
fn converted(cluster: &Cluster) -> Result<(), String> {
    let kind = cluster.write("kind.yaml", SMALL)?;
    let text = cluster.coracle(&["config", "convert", &kind])?;
    ensure(text.contains("apiVersion: coracle.dev/") && !text.contains("kind.x-k8s.io"), || text.clone())?;
    let path = cluster.write("converted.yaml", &text)?;
    cluster.coracle(&["config", "validate", &path])?;
    // With an engine, what is in the node image is known, too.
    let wrong = cluster.write("wrong.yaml", &text.replace("maxPods:", "maxPod:"))?;
    let output = cluster.coracle_output(&["config", "validate", &wrong])?;
    ensure(output.code == 2, || output.told())?;
    contains(&output.stderr, "did you mean `maxPods`?")?;
    with(cluster, &text, || {
        let nodes = cluster.kubectl(&["get", "nodes", "--selector=converted=yes", "--output=name"])?;
        ensure(nodes.trim() == format!("node/{}", cluster.node()), || nodes.clone())?;
        let config = configuration(cluster, &cluster.node())?;
        ensure(config["maxPods"] == 55, || config.to_string())?;
        contains(&flags(cluster, "kube-apiserver")?, "--profiling=false")
    })
}

/// What `config init` writes makes a cluster.
fn init(cluster: &Cluster) -> Result<(), String> {
    // A port that no other test has.
    let text = cluster.coracle(&["config", "init", "-", "--workers", "1", "--port", "28081:30080"])?;
    with(cluster, &text, || {
        let nodes = cluster.kubectl(&["get", "nodes", "--output=name"])?;
        ensure(nodes.lines().count() == 2, || nodes.clone())?;
        let published = cluster.host_port(30080)?;
        ensure(published == "127.0.0.1:28081", || published.clone())
    })
}
