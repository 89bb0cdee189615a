#!/usr/bin/env bash
# A cluster comes back with its data after the Docker engine stopped and started. Runs in namespaces of its own, with an engine
# of its own, so that the user's is left alone: engine-restart.sh DIRECTORY CORACLE IMAGE
set -euo pipefail
# shellcheck source=tests/cluster/own-engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/own-engine.sh"
name=t-accept-engine

clean_up() {
    "$coracle" delete cluster --name "$name" --quiet || true
    stop_engine
}

start_engine
load_image
export DOCKER_HOST=$own
trap clean_up EXIT

"$coracle" create cluster --name "$name" --quiet
kubectl() { timeout 30 "$coracle" kubectl --name "$name" "$@"; }
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

"$coracle" delete cluster --name "$name" --quiet
nothing_left
