#!/usr/bin/env bash
# An engine that hangs in the middle of `create` does not hold it up, and nothing stays: not even what the engine makes late.
# Runs in namespaces of its own, with an engine of its own: hangs.sh DIRECTORY CORACLE IMAGE
set -euo pipefail
# shellcheck source=tests/cluster/harness/own-engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../harness/own-engine.sh"
name=t-accept-hangs
create=("$coracle" create cluster --name "$name" --wait 5s)

clean_up() {
    kill -s CONT "$(cat "$directory/docker.pid")" || true
    DOCKER_HOST=$own "$coracle" delete cluster --name "$name" --quiet || true
    stop_engine
}
trap clean_up EXIT
start_engine
load_image
export DOCKER_HOST=$own
hang() { kill -s "$1" "$(cat "$directory/docker.pid")"; }

echo "it hangs, and goes on while create removes what it made"
begins 2 "${create[@]}" --workers 2
hang STOP
# Long enough for `create` to give up on its calls, and not on removing what they may still make.
sleep 32
hang CONT
ends 4
grep --quiet '"id":"engine-unreachable"' "$directory/events" || fail "no cause in:" "$(tail -n 3 "$directory/events")"
nothing_left

echo "it hangs for good while create waits for the cluster"
began=$SECONDS
begins 3 "${create[@]}"
hang STOP
ends 4
echo "  ended $((SECONDS - began)) s after the start"
grep --quiet "coracle delete cluster --name $name" "$directory/events" "$directory/said" ||
    fail "no hint in:" "$(cat "$directory/events" "$directory/said")"
code=0
timeout 60 "$coracle" get clusters >"$directory/said" 2>&1 || code=$?
[ "$code" = 4 ] || fail "exit code $code:" "$(cat "$directory/said")"
told "$directory/said" engine-unreachable 'it accepts connections, but does not answer'
hang CONT
"$coracle" delete cluster --name "$name" --quiet
nothing_left
