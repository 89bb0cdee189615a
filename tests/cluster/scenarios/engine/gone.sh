#!/usr/bin/env bash
# An engine that is killed or stopped in the middle of `create` is told at once, and when it is back nothing stays after `delete`.
# Runs in namespaces of its own, with an engine of its own: gone.sh DIRECTORY CORACLE IMAGE
set -euo pipefail
# shellcheck source=tests/cluster/harness/own-engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../harness/own-engine.sh"
create=("$coracle" create cluster --name t-accept-gone)

clean_up() {
    DOCKER_HOST=$own "$coracle" delete cluster --name t-accept-gone --quiet || true
    stop_engine
}
trap clean_up EXIT
start_engine

echo "no image here, and no registry"
code=0
DOCKER_HOST=$own "${create[@]}" >"$directory/said" 2>&1 || code=$?
[ "$code" = 3 ] || fail "exit code $code:" "$(cat "$directory/said")"
told "$directory/said" image-missing "there is no node image" "coracle build node-image"
load_image
export DOCKER_HOST=$own
nothing_left

for signal in KILL TERM; do
    for step in 2 3 5; do
        echo "SIG$signal at step $step"
        began=$SECONDS
        begins "$step" "${create[@]}"
        signal_engine "$signal"
        ends 4
        grep --quiet '"id":"engine-unreachable"' "$directory/events" || fail "no cause in:" "$(tail -n 3 "$directory/events")"
        grep --quiet 'coracle delete cluster --name t-accept-gone' "$directory/events" "$directory/said" ||
            fail "no hint in:" "$(cat "$directory/events" "$directory/said")"
        echo "  told $((SECONDS - began)) s after the start"
        start_engine
        "$coracle" delete cluster --name t-accept-gone --quiet
        nothing_left
    done
done

"${create[@]}" --quiet
"$coracle" delete cluster --name t-accept-gone --quiet
nothing_left
