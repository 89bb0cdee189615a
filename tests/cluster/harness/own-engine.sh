#!/usr/bin/env bash
# An engine of the test's own, for tests that break it. To be sourced by a script that runs in network, mount and process
# namespaces of its own and gets: DIRECTORY CORACLE IMAGE

# shellcheck disable=SC2034 # for the script that sources this
directory=$1 coracle=$2 image=$3
own=unix://$directory/docker.sock
# A command that fails without a word is told at least.
trap 'printf "line %s: \`%s\` failed\n" "$LINENO" "$BASH_COMMAND" >&2' ERR
ip link set lo up
mount --make-rprivate /
mkdir -p "$directory/data"
[ -e "$directory/daemon.json" ] || printf '{}\n' >"$directory/daemon.json"
export HOME=$directory KUBECONFIG=$directory/kubeconfig
unset XDG_CACHE_HOME DOCKER_CONTEXT DOCKER_CONFIG HTTP_PROXY HTTPS_PROXY http_proxy https_proxy

# The node image's layers as an engine of an earlier script had them; its own disk may be another one.
kept=$(dirname "$directory")/engine-with-image

# Gives a new engine the layers of an earlier one, which no engine changes: loading them takes ten times longer.
give_layers() {
    if [ -e "$directory/data/image" ] || ! [ -e "$kept" ]; then return 0; fi
    cp -al "$kept/overlay2" "$directory/data/" 2>/dev/null || {
        rm -rf "$directory/data/overlay2"
        cp -a "$kept/overlay2" "$directory/data/"
    }
    cp -a "$kept/image" "$directory/data/"
    # As on a machine that has had its images for longer: not only in memory.
    sync --file-system "$directory/data"
}

# start_engine OPTION...: starts it, with further options of dockerd.
start_engine() {
    give_layers
    # A killed engine leaves its containerd, which the next one takes over, and its PID file, which it does not.
    rm -f "$directory/docker.pid"
    dockerd --config-file "$directory/daemon.json" --data-root "$directory/data" --exec-root "$directory/exec" \
        -H "$own" --pidfile "$directory/docker.pid" "$@" >>"$directory/dockerd.log" 2>&1 &
    await_engine
}

await_engine() {
    for _ in $(seq 150); do
        if docker -H "$own" version >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    tail -n 20 "$directory/dockerd.log" >&2
    return 1
}

# signal_engine SIGNAL: sends it, and waits for the end.
signal_engine() {
    local id
    id=$(cat "$directory/docker.pid" 2>/dev/null) || return 0
    kill -s "$1" "$id" 2>/dev/null || return 0
    for _ in $(seq 300); do
        # A process that no one has waited for yet is a zombie, and has ended too.
        case "$(ps --no-headers --format stat --pid "$id")" in
            '' | Z*) return 0 ;;
        esac
        sleep 0.2
    done
    kill -9 "$id"
}

stop_engine() { signal_engine TERM; }

# Gives it the node image, and keeps the layers for the next script.
load_image() {
    if docker -H "$own" image inspect "$image" >/dev/null 2>&1; then return 0; fi
    docker -H unix:///var/run/docker.sock save "$image" | docker -H "$own" load >/dev/null
    if [ -e "$kept" ] || ! [ -e "$directory/data/image/overlay2" ]; then return 0; fi
    rm -rf "$kept.new"
    mkdir "$kept.new"
    cp -al "$directory/data/overlay2" "$kept.new/" 2>/dev/null || return 0
    cp -a "$directory/data/image" "$kept.new/"
    mv "$kept.new" "$kept"
}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# told FILE ID PART...: the file has the error with this ID, and all parts.
told() {
    local file=$1 part
    grep --quiet --fixed-strings "error[$2]" "$file" || fail "no error[$2] in:" "$(cat "$file")"
    shift 2
    for part in "$@"; do
        grep --quiet --fixed-strings -e "$part" "$file" || fail "\`$part\` is not in:" "$(cat "$file")"
    done
}

nothing_left() {
    local left
    left=$(docker ps --all --format '{{.Names}}'; docker volume ls --quiet; docker network ls --quiet --filter type=custom)
    [ -z "$left" ] || fail "left:" "$left"
}

# begins STEP COMMAND...: starts a `create` in the background, and waits until its n-th step has begun.
begins() {
    local step=$1
    shift
    : >"$directory/events"
    "$@" --output json >"$directory/events" 2>"$directory/said" &
    creating=$!
    for _ in $(seq 600); do
        [ "$(grep --count '"state":"started"' "$directory/events")" -lt "$step" ] || return 0
        kill -0 "$creating" 2>/dev/null || break
        sleep 0.05
    done
    fail "step $step has not begun:" "$(cat "$directory/events" "$directory/said")"
}

# ends CODE: waits for what `begins` has started, which must exit with this code within two minutes.
ends() {
    local began=$SECONDS code=0
    while kill -0 "$creating" 2>/dev/null; do
        [ $((SECONDS - began)) -lt 120 ] || fail "no end after 120 s:" "$(tail -n 5 "$directory/events")"
        sleep 0.1
    done
    wait "$creating" || code=$?
    [ "$code" = "$1" ] || fail "exit code $code instead of $1:" "$(cat "$directory/events" "$directory/said")"
}
