#!/usr/bin/env bash
# A cluster comes back with its data after the Docker engine stopped and started. Runs in network and mount namespaces of its own,
# with an engine of its own, so that the user's is left alone: engine-restart.sh DIRECTORY CORACLE IMAGE
set -euo pipefail

directory=$1 coracle=$2 image=$3
own=unix://$directory/docker.sock
ip link set lo up
mount --make-rprivate /
printf '{}\n' >"$directory/empty.json"

start_engine() {
    dockerd --config-file "$directory/empty.json" --data-root "$directory/data" --exec-root "$directory/exec" \
        -H "$own" --pidfile "$directory/docker.pid" >>"$directory/dockerd.log" 2>&1 &
    for _ in $(seq 150); do
        if docker -H "$own" version >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    tail -n 20 "$directory/dockerd.log" >&2
    return 1
}

stop_engine() {
    local id
    id=$(cat "$directory/docker.pid" 2>/dev/null) || return 0
    kill "$id" 2>/dev/null || return 0
    for _ in $(seq 300); do
        [ -e "/proc/$id" ] || return 0
        sleep 0.2
    done
    kill -9 "$id"
}

clean_up() {
    "$coracle" delete cluster --name t-accept-engine --quiet || true
    stop_engine
}

start_engine
docker -H unix:///var/run/docker.sock save "$image" | docker -H "$own" load >/dev/null
export DOCKER_HOST=$own HOME=$directory KUBECONFIG=$directory/kubeconfig
unset XDG_CACHE_HOME DOCKER_CONTEXT
trap clean_up EXIT

"$coracle" create cluster --name t-accept-engine --quiet
kubectl() { timeout 30 "$coracle" kubectl --name t-accept-engine "$@"; }
kubectl create configmap kept --from-literal=answer=42
before=$(kubectl get nodes --output=jsonpath='{.items[*].status.addresses[0].address}')

stop_engine
start_engine
began=$SECONDS
until [ "$(kubectl get configmap kept --output=jsonpath='{.data.answer}' 2>/dev/null)" = 42 ]; do
    [ $((SECONDS - began)) -lt 120 ] || { echo "the API or its data did not come back within 120 s" >&2; exit 1; }
    sleep 0.5
done
echo "the API answers $((SECONDS - began)) s after the engine"
after=$(kubectl get nodes --output=jsonpath='{.items[*].status.addresses[0].address}')
[ "$before" = "$after" ] || { echo "the node's address was $before and is $after" >&2; exit 1; }
kubectl wait --for=condition=Ready node --all --timeout=25s
kubectl --namespace=kube-system rollout status deployment coredns --timeout=25s

"$coracle" delete cluster --name t-accept-engine --quiet
left=$(docker ps --all --quiet; docker volume ls --quiet; docker network ls --quiet --filter type=custom)
[ -z "$left" ] || { echo "left after delete: $left" >&2; exit 1; }
