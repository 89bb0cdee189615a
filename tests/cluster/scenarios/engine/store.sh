#!/usr/bin/env bash
# Images come out of an engine that keeps them in containerd's store: Debian 13's, in a root file system of its own; and Buildx,
# of Debian 13 as well, builds one. Runs in namespaces of its own: store.sh DIRECTORY CORACLE IMAGE ROOT_ARCHIVE ARCHIVE CHANGED_ARCHIVE
set -euo pipefail
# shellcheck source=tests/cluster/harness/own-engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../harness/own-engine.sh"
archived=$4 archive=$5 changed=$6
name=t-accept-store app=t-accept-store-app:1
root=$directory/root
own=unix://$root/run/docker.sock

start_engine() {
    mkdir -p "$root"
    tar --directory="$root" --extract --file="$archived" --exclude=./dev
    mkdir -p "$root"/{dev,proc,sys,run,old,etc/docker,usr/lib/modules}
    mount --bind "$root" "$root"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/run"
    printf '{"features": {"containerd-snapshotter": true}}\n' >"$root/etc/docker/daemon.json"
    # runc leaves its root only where it is the root of all mounts. What was the root before stays: it ends with the namespace.
    # shellcheck disable=SC2016 # the inner shell expands it
    unshare --mount bash -ec 'cd "$1"; pivot_root . old; cd /; exec dockerd --pidfile /run/own.pid' \
        bash "$root" >"$directory/dockerd.log" 2>&1 &
    await_engine
}

clean_up() {
    "$coracle" delete cluster --name "$name" --quiet || true
    kill "$(cat "$root/run/own.pid")" 2>/dev/null || true
    for _ in $(seq 100); do
        if [ ! -e "$root/run/own.pid" ]; then break; fi
        sleep 0.1
    done
}

# load SOURCE LAYERS [ARGUMENT...]: loads the image, from this source and so many layers.
load() {
    local source=$1 layers=$2 report
    shift 2
    "$coracle" load docker-image --name "$name" --output json "$@" >"$directory/said" || fail "$(cat "$directory/said")"
    report=$(jq --slurp '.[-1]' "$directory/said")
    [ "$(jq --raw-output '.. | .source? // empty' <<<"$report" | head -n 1)" = "$source" ] || fail "not from \`$source\`:" "$report"
    [ "$(jq '[.. | .layers_sent? // empty] | add // 0' <<<"$report")" = "$layers" ] || fail "not $layers layers were sent:" "$report"
}

# has TEXT...: the image in the node has these texts, one in each layer. containerd forgets a mount only when it next collects
# garbage, so each look has a directory of its own.
has() {
    local found
    found=$(docker exec "$name-control-plane" bash -ec "
        directory=\$(mktemp --directory)
        ctr -n k8s.io images mount docker.io/library/$app \$directory >/dev/null
        cat \$directory/etc/text-*
        ctr -n k8s.io images unmount --rm \$directory >/dev/null
        rmdir \$directory" 2>"$directory/ctr") ||
        fail "cannot look into the image in the node:" "$(cat "$directory/ctr")"
    [ "$found" = "$*" ] || fail "the image in the node has \`$found\` and not \`$*\`"
}

start_engine
export DOCKER_HOST=$own
trap clean_up EXIT
[ "$(docker info --format '{{.Driver}}')" = overlayfs ] || fail "the engine has no containerd store"
docker load --quiet --input "$archive"
load_image
"$coracle" create cluster --name "$name" --image "$image" --quiet

load engine-store 3 "$app"
has onetwothree
load '' 0 "$app"
# The tag moves to an image with another topmost layer, which is known by its ID only now.
docker load --quiet --input "$changed"
load engine-store 1 "$app"
has onetwofour
docker exec "$name-control-plane" bash -ec 'crictl images --quiet | xargs crictl rmi 2>/dev/null || true'
CORACLE_IMAGE_SOURCE=save load engine-save 3 "$app"
has onetwofour
# An image by the ID that this engine knows it by, which is that of an index.
load '' 0 "$(docker image inspect --format '{{.Id}}' "$app")"

# `image build` is `docker build`, and so Buildx where the client has it: the old builder knows no here-documents.
mkdir -p "$directory/docker" "$directory/build"
jq --null-input --arg plugins "$root/usr/libexec/docker/cli-plugins" '{cliPluginsExtraDirs: [$plugins]}' >"$directory/docker/config.json"
export DOCKER_CONFIG=$directory/docker
docker buildx version
# A second name keeps the image that the new one is built from.
docker tag "$app" "$app-base"
printf 'FROM %s\nCOPY <<end /etc/text-4\nfive\nend\n' "$app-base" >"$directory/build/Dockerfile"
"$coracle" image build --name "$name" --tag "$app" "$directory/build" || fail "Buildx built nothing"
has onetwofourfive

"$coracle" delete cluster --name "$name" --quiet
docker image rm --force "$app" "$app-base" >/dev/null
nothing_left
