use super::*;

fn document(line: &str) -> Json {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let translated = translate(&words).unwrap();
    assert_eq!(translated.notes, Vec::<String>::new(), "{line}");
    let mut document = translated.document;
    document.remove("apiVersion");
    document.remove("kind");
    Json::Object(document)
}

#[test]
fn nodes_and_their_limits() {
    let line = "minikube start -p dev --nodes=3 --memory 4096 --cpus=2 --driver docker --kubernetes-version v1.35.4";
    let node = |role: &str| json!({"role": role, "memory": "4096Mi", "cpus": 2});
    let nodes = json!([node("control-plane"), node("worker"), node("worker")]);
    assert_eq!(document(line), json!({"name": "dev", "image": "coracle/node:v1.35.4", "nodes": nodes}));
    let planes = document("minikube start --ha")["nodes"].clone();
    assert_eq!(planes.as_array().map(Vec::len), Some(3));
    assert_eq!(planes[2]["role"], "control-plane");
    for (text, wanted) in [("2g", "2Gi"), ("1900mb", "1900Mi"), ("3GiB", "3Gi"), ("2048", "2048Mi")] {
        assert_eq!(quantity(text), wanted);
    }
}

#[test]
fn ports_mounts_and_flags() {
    let line = "minikube start --ports=8080:30080,127.0.0.1:53:30053/udp --mount --mount-string=/srv:/data \
                --extra-config=kubelet.max-pods=50 --extra-config apiserver.v=4 \
                --extra-config=kubeadm.pod-network-cidr=10.9.0.0/16 --docker-env A=b";
    let converted = document(line);
    assert_eq!(
        converted["nodes"][0],
        json!({
            "role": "control-plane",
            "extraMounts": [{"hostPath": "/srv", "containerPath": "/data"}],
            "kubeletFlags": {"max-pods": "50"},
            "env": {"A": "b"},
            "extraPortMappings": [
                {"containerPort": 30080, "hostPort": 8080, "listenAddress": "0.0.0.0"},
                {"containerPort": 30053, "hostPort": 53, "listenAddress": "127.0.0.1", "protocol": "UDP"},
            ],
        })
    );
    assert_eq!(converted["networking"], json!({"podSubnet": "10.9.0.0/16"}));
    assert_eq!(converted["apiServer"], json!({"v": "4"}));
}

#[test]
fn networks_registries_and_add_ons() {
    let line = "minikube start --cni=false --service-cluster-ip-range=10.7.0.0/16 --apiserver-names=ci,other \
                --insecure-registry=reg.local:5000 --registry-mirror=https://mirror.local \
                --addons=ingress,storage-provisioner --addons metrics-server --feature-gates=A=true,B=false";
    let converted = document(line);
    assert_eq!(
        converted["networking"],
        json!({"disableDefaultCNI": true, "serviceSubnet": "10.7.0.0/16", "apiServerCertSANs": ["ci", "other"]})
    );
    assert_eq!(converted["addons"], json!(["ingress", "metrics-server"]));
    assert_eq!(converted["featureGates"], json!({"A": true, "B": false}));
    assert_eq!(
        converted["registries"],
        json!([
            {"host": "docker.io", "mirrors": ["https://mirror.local"]},
            {"host": "reg.local:5000", "mirrors": ["http://reg.local:5000"]},
        ])
    );
}

#[test]
fn what_has_no_counterpart_is_named() {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let translated = translate(&words(
        "minikube start --cni calico --addons=dashboard --gpus all --disk-size=20g --apiserver-port 8443 --docker-env http_proxy=http://h:1",
    ))
    .unwrap();
    for (note, name) in
        translated.notes.iter().zip(["cni", "addons", "gpus", "disk-size", "apiserver-port", "docker-env"])
    {
        assert!(note.starts_with(&format!("`--{name}` is left out: ")), "{note}");
    }
    assert_eq!(translated.notes.len(), 6);
    assert_eq!(translated.document["networking"]["disableDefaultCNI"], json!(true));
    for (line, wanted) in [
        ("kind create cluster", "`kind` is not minikube"),
        ("minikube delete", "not `minikube delete`"),
        ("minikube", "only `minikube start`"),
        ("minikube start --memory", "`--memory` has no value"),
    ] {
        assert!(translate(&words(line)).is_err_and(|error| error.contains(wanted)), "{line}");
    }
}
