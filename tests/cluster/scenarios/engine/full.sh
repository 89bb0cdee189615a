#!/usr/bin/env bash
# A disk that is full, or fills up, ends `create` with its cause, and nothing of it is left. Runs in namespaces of its own, with
# an engine of its own on a small disk: full.sh DIRECTORY CORACLE IMAGE
set -euo pipefail
# shellcheck source=tests/cluster/harness/own-engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../harness/own-engine.sh"
create=("$coracle" create cluster --name t-accept-full)

truncate --size=2200M "$directory/disk"
mkfs.ext4 -q -m 0 "$directory/disk"
mount -o loop "$directory/disk" "$directory/data"
clean_up() {
    DOCKER_HOST=$own "$coracle" delete cluster --name t-accept-full --quiet || true
    stop_engine
    umount --lazy "$directory/data"
}
trap clean_up EXIT
start_engine
load_image
export DOCKER_HOST=$own

# fill MIB: takes all but so much of the disk. What the engine writes meanwhile may take the room that was there.
fill() {
    local free left=20
    until
        free=$(df --block-size=1M --output=avail "$directory/data" | tail -n 1)
        fallocate --length="$((free - $1 - 1))MiB" "$directory/data/filler"
    do
        rm -f "$directory/data/filler"
        [ $((left -= 1)) -gt 0 ] || fail "the disk cannot be filled"
        sleep 0.5
    done
    [ "$1" != 0 ] || dd if=/dev/zero of="$directory/data/rest" bs=64K 2>/dev/null || true
}

empty() { rm -f "$directory/data/filler" "$directory/data/rest"; }

echo "no room from the start"
fill 1
code=0
"${create[@]}" >"$directory/said" 2>&1 || code=$?
[ "$code" = 4 ] || fail "exit code $code:" "$(cat "$directory/said")"
told "$directory/said" disk-full "is full" "docker system prune"
nothing_left

for step in 2 3; do
    echo "full from step $step on"
    empty
    fill 600
    begins "$step" "${create[@]}"
    empty
    fill 0
    ends 4
    grep --quiet '"id":"disk-full"' "$directory/events" || fail "no disk-full in:" "$(tail -n 3 "$directory/events")"
    grep --quiet 'no space left on device' "$directory/events" || fail "no cause in:" "$(tail -n 3 "$directory/events")"
    nothing_left
done

echo "room again, and too little for an image"
empty
"${create[@]}" --quiet
mkdir "$directory/content"
head -c 150M /dev/urandom >"$directory/content/file"
tar --directory "$directory/content" --create file | docker import --change 'CMD ["/file"]' - t-accept-full:1 >/dev/null
store() {
    docker exec t-accept-full-control-plane sh -c 'ctr -n k8s.io snapshots ls | grep Committed; ctr -n k8s.io images ls -q
        ls -A /var/lib/containerd/dev.coracle.staging 2>/dev/null || true' 2>/dev/null
}
store >"$directory/before"
fill 60
code=0
"$coracle" load docker-image t-accept-full:1 --name t-accept-full >"$directory/said" 2>&1 || code=$?
[ "$code" = 4 ] || fail "exit code $code:" "$(cat "$directory/said")"
told "$directory/said" disk-full t-accept-full-control-plane
store | diff "$directory/before" - >&2 || fail "the load left something"
# etcd ends if it has no room for its log at the wrong moment, and the kubelet starts it again.
well=no
for _ in $(seq 30); do
    "$coracle" status --name t-accept-full >"$directory/said" 2>&1 && well=yes && break
    sleep 2
done
[ "$well" = yes ] || fail "after the load:" "$(cat "$directory/said")"
empty
"$coracle" load docker-image t-accept-full:1 --name t-accept-full --quiet

echo "full under a running cluster"
fill 0
code=0
"$coracle" status --name t-accept-full >"$directory/said" 2>&1 || code=$?
[ "$code" = 1 ] || fail "status ended with $code:" "$(cat "$directory/said")"
grep --quiet "the engine's disk is full: no space left on device" "$directory/said" || fail "no cause in:" "$(cat "$directory/said")"
empty
"$coracle" delete cluster --name t-accept-full --quiet
nothing_left
