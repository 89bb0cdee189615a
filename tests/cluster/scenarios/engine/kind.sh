#!/usr/bin/env bash
# kind creates a cluster from our node image, and its node and DNS become ready. Runs in namespaces of its own, with an engine
# of its own, since kind needs privileges that not every engine grants: kind.sh DIRECTORY CORACLE IMAGE KIND
set -euo pipefail
# shellcheck source=tests/cluster/harness/own-engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../harness/own-engine.sh"
kind=$4
name=t-accept-kind

# kind wants every capability. Where this machine has not got CAP_SYS_RESOURCE (bit 24), the engine's runtime leaves it out.
bounding=$(awk '/^CapBnd/ { print $2 }' /proc/self/status)
if (((16#$bounding >> 24 & 1) == 0)); then
    cat >"$directory/runtime" <<'RUNTIME'
#!/usr/bin/env bash
strip() { content=$(jq "$1" "$2") && printf '%s' "$content" >"$2"; }
without='with_entries(.value -= ["CAP_SYS_RESOURCE"])'
for ((index = 1; index < $#; index++)); do
    next=$((index + 1))
    case "${!index}" in
        --bundle | -b) [ ! -e "${!next}/config.json" ] || strip "(.process.capabilities // empty) |= $without" "${!next}/config.json" ;;
        --process | -p) [ ! -e "${!next}" ] || strip "(.capabilities // empty) |= $without" "${!next}" ;;
    esac
done
exec runc "$@"
RUNTIME
    chmod +x "$directory/runtime"
    printf '{"runtimes": {"limited": {"path": "%s"}}, "default-runtime": "limited"}\n' "$directory/runtime" >"$directory/daemon.json"
fi

# kind mounts it, and the engine would leave an empty directory on the host.
[ -e /lib/modules ] || no_modules=true
clean_up() {
    "$kind" delete cluster --name "$name" || true
    stop_engine
    [ -z "${no_modules:-}" ] || rmdir /lib/modules 2>/dev/null || true
}

start_engine
load_image
export DOCKER_HOST=$own
trap clean_up EXIT
cat >"$directory/kind.yaml" <<'CONFIG'
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  apiVersion: kubelet.config.k8s.io/v1beta1
  failCgroupV1: false
- |
  kind: InitConfiguration
  nodeRegistration:
    ignorePreflightErrors: [all]
CONFIG
"$kind" create cluster --name "$name" --image "$image" --config "$directory/kind.yaml" --wait 180s ||
    fail "$(docker exec "$name-control-plane" journalctl --no-pager --lines=40 2>&1)"
kubectl() { docker exec --env KUBECONFIG=/etc/kubernetes/admin.conf "$name-control-plane" kubectl "$@"; }
kubectl wait --for=condition=Ready node --all --timeout=60s
# kind's CoreDNS may be faster than kube-proxy, and then waits half a minute for its first connection.
kubectl --namespace=kube-system rollout status deployment coredns --timeout=180s ||
    fail "$(kubectl --namespace=kube-system get pods,events 2>&1; kubectl --namespace=kube-system logs --selector=k8s-app=kube-dns 2>&1)"
kubectl --namespace=local-path-storage rollout status deployment local-path-provisioner --timeout=60s
