# A cluster is made if it is not there, from a file on standard input.
if ! kind get clusters | grep --quiet --line-regexp "$KIND_CLUSTER_NAME"; then
    cat <<END | kind create cluster --name "$KIND_CLUSTER_NAME" --wait 5m --config=-
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
  labels:
    tier: front
  extraPortMappings:
  - containerPort: 30080
    hostPort: $NODE_PORT
    protocol: TCP
- role: worker
  extraMounts:
  - hostPath: $PWD/shared
    containerPath: /shared
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
END
fi
kubectl cluster-info --context "kind-$KIND_CLUSTER_NAME" >/dev/null && echo "it answers"
kubectl wait --for=condition=Ready node --all --timeout=120s | sort
kubectl get nodes --no-headers --output=custom-columns=NAME:.metadata.name,TIER:.metadata.labels.tier,TAINTS:.spec.taints
kubectl get node "$KIND_CLUSTER_NAME-control-plane" --output=jsonpath='{.metadata.labels.node-role\.kubernetes\.io/control-plane}{.spec.providerID}{"\n"}'
