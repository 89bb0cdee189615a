# Checks first that there is nothing, as scripts do that make a cluster only once.
[ -z "$(kind get clusters | grep --line-regexp "$KIND_CLUSTER_NAME" || true)" ]
[ -z "$(kind get nodes)" ]
if kind get kubeconfig; then exit 1; fi
kind create cluster --wait 5m --config - <<END
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
    extraPortMappings:
      - containerPort: 30080
  - role: worker
containerdConfigPatches:
  - |-
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
END
kubectl cluster-info --context "kind-$KIND_CLUSTER_NAME"
code=0
kind create cluster || code=$?
[ "$code" = 1 ]
