#!/usr/bin/env bash
# The plug is pulled while a client writes: what the disk had not been told to keep is gone, and so is every process. The cluster
# comes back by itself with everything that was acknowledged. Runs in namespaces of its own, with an engine of its own on a disk
# of its own: plug.sh DIRECTORY CORACLE IMAGE ROUNDS
set -euo pipefail
# shellcheck source=tests/cluster/harness/own-engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../harness/own-engine.sh"
rounds=$4 name=t-accept-plug

# mount_disk: as a boot does it, which brings the file system's journal up to date.
mount_disk() { mount -o loop "$directory/disk" "$directory/data"; }

# mounted: what is mounted on the disk, and the disk.
mounted() { awk -v under="$directory/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo; }

clean_up() {
    "$coracle" delete cluster --name "$name" --quiet || true
    stop_engine
    umount --lazy "$directory/data"
}
kubectl() { timeout 30 "$coracle" kubectl --name "$name" "$@"; }

# pull_the_plug: ext4 forgets what it has not written, as xfstests do it, and all other processes of this namespace end.
pull_the_plug() {
    local containers
    containers=$(docker ps --all --quiet --no-trunc)
    # EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, of the kernel's fs/ext4/ext4.h.
    perl -e 'open(my $disk, "<", $ARGV[0]) or die; my $flags = pack("L", 2);
        ioctl($disk, 0x8004587d, $flags) or die "no shutdown: $!"' "$directory/data"
    disown -a
    kill -9 -1
    # Nothing but the disk is there after a boot.
    ip -brief link | awk '$1 ~ /^(docker|br-)/ { print $1 }' | xargs --no-run-if-empty -n 1 ip link delete
    for table in filter nat; do iptables --table "$table" --flush; iptables --table "$table" --delete-chain; done
    for _ in $(seq 100); do
        mounted | sort --reverse | xargs --no-run-if-empty umount 2>/dev/null || true # until nothing holds it
        # The last process that had it in a mount namespace of its own has ended too.
        [ -n "$(losetup --associated "$directory/disk")" ] || break
        sleep 0.2
    done
    [ -z "$(losetup --associated "$directory/disk")" ] || fail "the disk is still in use:" "$(mounted)"
    for container in $containers; do
        find /sys/fs/cgroup -depth -type d -path "*/$container*" -exec rmdir {} + 2>/dev/null || true
    done
    rm -rf "$directory/exec" "$directory/docker.sock"
    mount_disk
}

# write: ConfigMaps as fast as it can; what was acknowledged is noted on another disk.
write() {
    local round=0
    while true; do
        round=$((round + 1))
        if kubectl create configmap "written-$1-$round" --request-timeout=3s >/dev/null 2>&1; then
            echo "configmap/written-$1-$round" >>"$directory/acknowledged"
        fi
    done
}

# await_written: until the node has written the loaded image to its disk, which nothing else of this test waits for.
await_written() {
    for _ in $(seq 100); do
        if ! docker top "$name-control-plane" -o pid,args | grep --quiet 'images receive'; then return 0; fi
        sleep 0.2
    done
    fail "the loaded image is not on the disk after 20 s"
}

# runs POD: a pod of the image that was loaded.
runs() {
    kubectl run "$1" --image=t-accept-plug:1 --image-pull-policy=Never --restart=Never >/dev/null
    kubectl wait --for=jsonpath='{.status.phase}'=Succeeded "pod/$1" --timeout=25s >/dev/null ||
        fail "$1 did not run:" "$(kubectl describe pod "$1")"
}

truncate --size=4G "$directory/disk"
mkfs.ext4 -q -m 0 "$directory/disk"
mount_disk
start_engine
load_image
export DOCKER_HOST=$own
trap clean_up EXIT
"$coracle" create cluster --name "$name" --quiet
kubectl create configmap before --output=name 2>/dev/null
: >"$directory/acknowledged"
for round in $(seq "$rounds"); do
    if [ "$round" = 1 ]; then
        # The program of an image that was loaded a moment ago: kubectl, which needs no other file.
        docker cp "$name-control-plane:/usr/bin/kubectl" "$directory/kubectl"
        tar --directory "$directory" --create kubectl |
            docker import --change 'CMD ["/kubectl", "version", "--client"]' - t-accept-plug:1 >/dev/null
        "$coracle" load docker-image t-accept-plug:1 --name "$name" --quiet
        await_written
    fi
    write "$round" &
    sleep "$((RANDOM % 4)).$((RANDOM % 10))"
    pull_the_plug
    start_engine
    began=$SECONDS
    until "$coracle" status --name "$name" >"$directory/said" 2>&1; do
        [ $((SECONDS - began)) -lt 120 ] || fail "it did not come back:" "$(cat "$directory/said")"
        sleep 0.5
    done
    took=$((SECONDS - began))
    kubectl get configmaps --output=name | sort >"$directory/there"
    sort "$directory/acknowledged" | comm -23 - "$directory/there" >"$directory/lost"
    [ ! -s "$directory/lost" ] || fail "acknowledged and lost:" "$(cat "$directory/lost")"
    # A new pod starts, with images that the node had before.
    kubectl --namespace=kube-system rollout restart deployment coredns >/dev/null
    kubectl --namespace=kube-system rollout status deployment coredns --timeout=60s >/dev/null
    runs "loaded-$round"
    echo "round $round: back $took s after the engine, with $(wc -l <"$directory/acknowledged") acknowledged writes"
done
