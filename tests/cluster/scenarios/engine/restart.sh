#!/usr/bin/env bash
# A cluster comes back with its data after the Docker engine stopped and started, and so does the registry that all clusters
# share. Runs in namespaces of its own, with an engine of its own, so that the user's is left alone, and a registry of the
# same name: restart.sh DIRECTORY CORACLE IMAGE REGISTRY_IMAGE
set -euo pipefail
# shellcheck source=tests/cluster/harness/own-engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../harness/own-engine.sh"
registry=$4
name=t-accept-engine
app=localhost:5001/team/app:1

clean_up() {
    "$coracle" delete clusters --all --quiet || true
    stop_engine
}

start_engine
load_image
docker -H unix:///var/run/docker.sock save "$registry" | docker -H "$own" load >/dev/null
export DOCKER_HOST=$own
trap clean_up EXIT
kubectl() { timeout 30 "$coracle" kubectl --name "$name" "$@"; }

# runs POD: a pod of an image that only the registry has.
runs() {
    kubectl run "$1" --image="$app" --image-pull-policy=Always --restart=Never --command -- /registry --version
    kubectl wait --for=jsonpath='{.status.phase}'=Succeeded "pod/$1" --timeout=25s ||
        fail "$1 did not run:" "$(kubectl describe pod "$1")"
}

# As on every host that systemd has booted: whatever is mounted here is shared.
mkdir -p "$directory/shared"
mount --make-rshared /

# The registry is not there yet: the first cluster that wants it makes it.
cat >"$directory/cluster.yaml" <<CONFIG
apiVersion: coracle.dev/v1alpha1
kind: Cluster
registry: true
nodes:
- role: control-plane
  extraMounts:
  - {hostPath: $directory/shared, containerPath: /shared, propagation: Bidirectional}
CONFIG
"$coracle" create cluster --name "$name" --config "$directory/cluster.yaml" --quiet
docker tag "$registry" "$app"
docker push --quiet "$app"
docker image rm "$app"
kubectl create configmap kept --from-literal=answer=42
before=$(kubectl get nodes --output=jsonpath='{.items[*].status.addresses[0].address}')

stop_engine
start_engine
began=$SECONDS
until [ "$(kubectl get configmap kept --output=jsonpath='{.data.answer}' 2>/dev/null)" = 42 ]; do
    [ $((SECONDS - began)) -lt 120 ] || fail "the API or its data did not come back within 120 s"
    sleep 0.5
done
echo "the API answers $((SECONDS - began)) s after the engine"
after=$(kubectl get nodes --output=jsonpath='{.items[*].status.addresses[0].address}')
[ "$before" = "$after" ] || fail "the node's address was $before and is $after"
kubectl wait --for=condition=Ready node --all --timeout=25s
kubectl --namespace=kube-system rollout status deployment coredns --timeout=25s
runs restarted

# Of the node's mounts the host has those in the directory that is shared in both directions, and no other one.
docker exec "$name-control-plane" sh -c 'mkdir /shared/in && mount -t tmpfs in /shared/in'
grep --quiet " $directory/shared/in " /proc/self/mountinfo || fail "the mount in the node is not on the host"
docker exec "$name-control-plane" umount /shared/in
if grep " $directory/data/volumes/" /proc/self/mountinfo >&2; then fail "mounts of the node are on the host"; fi
docker exec "$name-control-plane" mountpoint /var/local-path-provisioner

# The registry outlives the cluster, and is the next one's without a word about it.
"$coracle" delete cluster --name "$name" --quiet
"$coracle" create cluster --name "$name" --quiet
runs shared
"$coracle" registry list
"$coracle" registry list --output json |
    jq --exit-status ".[0] | .host == \"localhost:5001\" and .state == \"running\" and .clusters == [\"$name\"]" >/dev/null ||
    fail "the shared registry is not as it was"

# What a user stopped stays stopped, whether the engine ends in good order or not, and comes back when it is told to.
kubectl create configmap kept-too --from-literal=answer=43
"$coracle" stop "$name" --quiet
for signal in TERM KILL; do
    signal_engine "$signal"
    start_engine
    "$coracle" get clusters --output json | jq --exit-status '.[0].state == "stopped"' >/dev/null ||
        fail "after $signal to the engine:" "$("$coracle" get clusters)"
done
"$coracle" start "$name" --quiet
[ "$(kubectl get configmap kept-too --output=jsonpath='{.data.answer}')" = 43 ] || fail "the data is not the same"

"$coracle" delete cluster --name "$name" --quiet
"$coracle" registry delete --volumes --quiet
nothing_left
