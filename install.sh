#!/usr/bin/env bash
# Installs coracle from this repository: missing programs, the command line and the node image. See `--help`.
set -euo pipefail

readonly RUST_WANTED=1.89
readonly GO_WANTED=1.26
readonly GO_RELEASE=1.26.8 # fetched if Go is missing or too old

# The same Go as a module, for networks that reach only the module proxy. It was compared with the release file by file.
readonly GO_MODULE=golang.org/toolchain/@v/v0.0.1-go$GO_RELEASE.linux-amd64.zip
readonly GO_MODULE_SHA256=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7

RUSTUP_URL=${CORACLE_RUSTUP_URL:-https://static.rust-lang.org/rustup/dist}
GO_URL=${CORACLE_GO_URL:-https://go.dev/dl}
CLUSTER=${CORACLE_CLUSTER_NAME:-coracle}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CARGO_BIN=${CARGO_HOME:-$HOME/.cargo}/bin
GO_ROOT=${CORACLE_GO_ROOT:-/usr/local/go}
GO_HOME=${XDG_DATA_HOME:-$HOME/.local/share}/coracle/go

create=false
run_tests=false
assume_yes=false
packages=()     # Debian packages to install
need_rust=false # fetch rustup
need_go=false   # fetch Go
start_engine=false
begun="" # the process that compiles in the background

usage() {
    cat <<'END'
Install coracle from this repository: missing programs, the command line and the node image

Usage: ./install.sh [OPTIONS]

Options:
  --create   Also create a cluster, unless it already exists
  --test     Also run every test
  --yes      Do not ask before installing packages, fetching toolchains or starting the Docker engine
  --help     Print this help

Environment:
  CORACLE_INSTALL_DIR   Directory for the command [default: /usr/local/bin for root, else ~/.local/bin]
  CORACLE_CLUSTER_NAME  Name of the cluster [default: coracle]
  CORACLE_GO_ROOT       Directory of Go if it is not in PATH [default: /usr/local/go]
  CORACLE_RUSTUP_URL    Mirror of https://static.rust-lang.org/rustup/dist
  CORACLE_GO_URL        Mirror of https://go.dev/dl
  GOPROXY               Go module proxy, used if go.dev cannot be reached [default: https://proxy.golang.org]

Needs a C compiler, git, curl, Docker Engine, Rust and Go.
Programs that are already installed are used as they are.
END
}

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf '  hint: %s\n' "$hint" >&2; done
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: runs it as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "\`$*\` needs root, and sudo is not installed" "run it as root, then run ./install.sh again"
    fi
}

# at_least WANTED VERSION: whether a version such as 1.95.0 is new enough.
at_least() {
    [ -n "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

rust_version() { rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p'; }
go_version() { go version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p'; }

engine_answers() {
    if have docker; then
        timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
    else
        timeout 20 curl --silent --fail --unix-socket /var/run/docker.sock http://docker/_ping >/dev/null 2>&1
    fi
}

refuse_without_permission() {
    local answer
    answer=$(timeout 20 docker version 2>&1) || true
    if grep -qi "permission denied" <<<"$answer"; then
        fail "this user has no permission to use the Docker engine" "sudo usermod -aG docker \"\$USER\", then log in again"
    fi
}

find_missing_packages() {
    local -A package=([cc]="gcc libc6-dev" [git]=git [curl]="curl ca-certificates" [mmdebstrap]="mmdebstrap debian-archive-keyring")
    local program words missing=()
    for program in cc git curl mmdebstrap; do
        have "$program" && continue
        if [ "$program" = mmdebstrap ] && ! have apt-get; then continue; fi
        missing+=("$program")
        read -r -a words <<<"${package[$program]}"
        packages+=("${words[@]}")
    done
    # Programs that only the tests call; where they are missing, the tests that need them are skipped.
    if $run_tests && have apt-get; then
        for program in shellcheck jq nft; do
            have "$program" || packages+=("${program/%nft/nftables}")
        done
    fi
    # A client alone is not an engine.
    if [ -z "${DOCKER_HOST:-}" ] && ! have dockerd && ! engine_answers; then
        missing+=("Docker Engine")
        packages+=(docker.io)
    fi
    [ ${#missing[@]} -eq 0 ] && return 0
    have apt-get || fail "not installed: $(printf '%s, ' "${missing[@]}" | sed 's/, $//')" \
        "install these with your system's package manager (cc is a C compiler with headers)" \
        "Docker Engine: https://docs.docker.com/engine/install/"
}

# Sets start_engine, or fails where another person's decision is needed.
find_engine() {
    engine_answers && return 0
    if [ -n "${DOCKER_HOST:-}" ]; then
        fail "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST" "start it, or unset DOCKER_HOST"
    fi
    local context=default
    ! have docker || context=$(docker context inspect --format '{{.Name}}' 2>/dev/null) || context=default
    if [ "$context" != default ]; then
        fail "no Docker engine answers in the Docker context $context" "start it, or run \`docker context use default\`"
    fi
    refuse_without_permission
    start_engine=true
}

rust_is_there() { have cargo && at_least "$RUST_WANTED" "$(rust_version)"; }
go_is_there() { at_least "$GO_WANTED" "$(go_version)"; }

# A toolchain in PATH comes first; one in its usual place counts if that one is too old or PATH lacks it.
find_toolchains() {
    local path=$PATH directory
    if ! rust_is_there; then
        PATH=$CARGO_BIN:$path
        rust_is_there || need_rust=true
    fi
    path=$PATH
    go_is_there && return 0
    for directory in "$GO_HOME/bin" "$GO_ROOT/bin"; do
        PATH=$directory:$path
        if go_is_there; then return 0; fi
    done
    PATH=$path
    # Go 1.21 and later fetch a newer toolchain by themselves where the module proxy can be reached.
    if have go && GOTOOLCHAIN=go$GO_RELEASE timeout 300 go version >/dev/null 2>&1; then
        export GOTOOLCHAIN=go$GO_RELEASE
        go_is_there && return 0
    fi
    need_go=true
    # For the module that Go can be fetched as.
    if have apt-get && ! have unzip; then packages+=(unzip); fi
}

# Asks once about everything that changes the machine.
ask() {
    local plan=()
    [ ${#packages[@]} -eq 0 ] || plan+=("install the packages ${packages[*]}")
    ! $need_rust || plan+=("install Rust to ~/.cargo and ~/.rustup, from $RUSTUP_URL")
    ! $need_go || plan+=("install Go $GO_RELEASE to $GO_HOME, from $GO_URL")
    ! $start_engine || plan+=("start the Docker engine")
    [ ${#plan[@]} -eq 0 ] && return 0
    say "To do before coracle can be built:"
    printf '  - %s\n' "${plan[@]}"
    $assume_yes && return 0
    [ -t 0 ] || fail "cannot ask for consent without a terminal" "run ./install.sh --yes to agree"
    local answer
    read -r -p "Continue? [y/N] " answer
    case "$answer" in
        y | Y | yes) ;;
        *) fail "nothing was changed" ;;
    esac
}

install_packages() {
    [ ${#packages[@]} -gt 0 ] || return 0
    say "Installing ${packages[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
        say "apt-get update failed; using the existing package lists"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null ||
        fail "apt-get cannot install ${packages[*]}"
}

start_engine() {
    $start_engine || return 0
    # A package that was just installed may have started it.
    ! engine_answers || return 0
    say "Starting the Docker engine"
    local log=${XDG_STATE_HOME:-$HOME/.local/state}/coracle/dockerd.log
    if [ -d /run/systemd/system ]; then
        as_root systemctl start docker || fail "the Docker engine does not start" "journalctl --unit docker"
    elif have dockerd; then
        mkdir -p "$(dirname "$log")"
        as_root sh -c "setsid nohup dockerd >'$log' 2>&1 </dev/null &"
    else
        fail "the Docker engine is not running" "start Docker, then run ./install.sh again"
    fi
    for _ in $(seq 60); do
        engine_answers && return 0
        sleep 1
    done
    refuse_without_permission
    fail "the Docker engine did not answer within 60 seconds" "see $log or \`journalctl --unit docker\`"
}

# download URL FILE
download() {
    curl --silent --show-error --fail --location --retry 2 --connect-timeout 15 --max-time 900 --output "$2" "$1"
}

# fetch URL FILE [SHA256]: downloads a file and checks it, against URL.sha256 if no checksum is given.
fetch() {
    local wanted=${3:-} got
    download "$1" "$2" || return 1
    if [ -z "$wanted" ]; then
        download "$1.sha256" "$2.sha256" || return 1
        read -r wanted _ <"$2.sha256" || true
    fi
    got=$(sha256sum "$2")
    got=${got%% *}
    [ "$wanted" = "$got" ] || fail "$1 is damaged: its SHA-256 is $got and should be $wanted" "run ./install.sh again"
}

machine() {
    case "$(uname -s) $(uname -m)" in
        "Linux x86_64") say "$1" ;;
        "Linux aarch64") say "$2" ;;
        *) fail "$(uname -s) on $(uname -m) is not supported" "use Linux on x86_64 or aarch64" ;;
    esac
}

install_rust() {
    $need_rust || return 0
    if have rustup; then
        say "Updating Rust"
        export RUSTUP_TOOLCHAIN=stable
        if ! rustup toolchain install stable --profile minimal --component clippy --component rustfmt || ! rust_is_there; then
            fail "Rust $RUST_WANTED is needed, and rustup cannot fetch it" "rustup update stable"
        fi
        return 0
    fi
    say "Installing Rust"
    local target
    target=$(machine x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu)
    fetch "$RUSTUP_URL/$target/rustup-init" "$scratch/rustup-init" ||
        fail "Rust $RUST_WANTED is needed and $RUSTUP_URL cannot be reached" "install it: https://rustup.rs"
    chmod +x "$scratch/rustup-init"
    if ! "$scratch/rustup-init" -y --quiet --no-modify-path --profile minimal --component clippy --component rustfmt \
        >"$scratch/log" 2>&1; then
        tail -n 5 "$scratch/log" >&2
        fail "rustup cannot install Rust" "install Rust $RUST_WANTED: https://rustup.rs"
    fi
    PATH=$CARGO_BIN:$PATH
    rust_is_there || fail "the installed Rust does not run, or is older than $RUST_WANTED"
}

# fetch_go_module DIRECTORY: makes it from Go's toolchain module, as Go itself does when it changes its version.
fetch_go_module() {
    local proxy=${GOPROXY:-https://proxy.golang.org} module
    proxy=${proxy%%[,|]*}
    [ "$(uname -m)" = x86_64 ] && have unzip || return 1
    say "Trying the Go module proxy"
    fetch "$proxy/$GO_MODULE" "$scratch/go.zip" "$GO_MODULE_SHA256" || return 1
    unzip -q "$scratch/go.zip" -d "$scratch/module" || return 1
    mv "$scratch"/module/golang.org/toolchain@* "$1"
    # Modules carry neither permissions nor inner go.mod files under their name.
    chmod +x "$1"/bin/* "$1"/pkg/tool/*/*
    find "$1" -name _go.mod | while read -r module; do mv "$module" "${module%_go.mod}go.mod"; done
}

install_go() {
    $need_go || return 0
    say "Installing Go $GO_RELEASE"
    local file new=$scratch/go
    file=go$GO_RELEASE.linux-$(machine amd64 arm64).tar.gz
    if fetch "$GO_URL/$file" "$scratch/$file"; then
        tar -xzf "$scratch/$file" -C "$scratch"
    elif ! fetch_go_module "$new"; then
        fail "Go $GO_WANTED is needed and $GO_URL cannot be reached" "install it: https://go.dev/doc/install"
    fi
    mkdir -p "$(dirname "$GO_HOME")"
    rm -rf "$GO_HOME"
    mv "$new" "$GO_HOME"
    PATH=$GO_HOME/bin:$PATH
    go_is_there || fail "the installed Go does not run, or is older than $GO_WANTED"
}

# Compiles most of the node image while cargo leaves a processor idle; `coracle build node-image`, which has the same
# settings, then finds it in Go's cache. That it fails or is ended early is no harm.
begin_node_image() {
    local source=$scratch/kubernetes releases=("$HERE"/node-image/kubernetes/v*)
    local release=${releases[-1]}
    mkdir "$source"
    install -m 644 "$HERE"/node-image/kubernetes/*.go "$release"/go.mod "$release"/go.sum "$source" || return 0
    (cd "$source" && exec env CGO_ENABLED=0 GO111MODULE=on GOARCH=amd64 GOFLAGS="-mod=readonly -buildvcs=false -trimpath" \
        GOOS=linux GOWORK=off GOTMPDIR="$source" setsid nice -n 19 go list -deps -export . >/dev/null 2>&1 </dev/null) &
    begun=$!
}

end_begun() {
    [ -z "$begun" ] || kill -- "-$begun" "$begun" 2>/dev/null || true
    wait
    begun=""
}

install_coracle() {
    say "Building coracle"
    begin_node_image
    (cd "$HERE" && cargo build --release --locked --bin coracle)
    end_begun
    local built=${CARGO_TARGET_DIR:-$HERE/target}/release/coracle
    mkdir -p "$bin"
    if cmp -s "$built" "$bin/coracle"; then return 0; fi
    # A running coracle keeps its old file.
    if ! install -m 755 "$built" "$bin/.coracle.new" || ! mv -f "$bin/.coracle.new" "$bin/coracle"; then
        fail "cannot write to $bin" "CORACLE_INSTALL_DIR=DIR ./install.sh"
    fi
    say "Installed $bin/coracle"
}

build_node_image() {
    say "Building the node image (takes minutes the first time, seconds if nothing changed)"
    "$bin/coracle" build node-image
}

create_cluster() {
    if "$bin/coracle" get clusters --output name 2>/dev/null | grep -qx "$CLUSTER"; then
        say "Cluster $CLUSTER already exists"
    else
        "$bin/coracle" create cluster --name "$CLUSTER"
    fi
}

next_steps() {
    local on=$CLUSTER flag=""
    [ "$on" = coracle ] || flag=" --name $on"
    printf '\nTry next:\n'
    case ":$old_path:" in
        *":$bin:"*) ;;
        *) say "  export PATH=\"$bin:\$PATH\"" ;;
    esac
    if $create; then
        say "  coracle kubectl$flag get nodes       # or kubectl get nodes"
        say "  coracle kubectl$flag create deployment web --image=IMAGE"
    else
        say "  coracle create cluster$flag"
    fi
    say "  less samples/hello-world/README.md   # an app from source to a page in the browser"
    ! $create || say "  coracle delete cluster$flag"
}

main() {
    local argument
    for argument in "$@"; do
        case "$argument" in
            --create) create=true ;;
            --test) run_tests=true ;;
            --yes | -y) assume_yes=true ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) printf 'error: unknown option %s\n\n' "$argument" >&2 && usage >&2 && exit 2 ;;
        esac
    done
    old_path=$PATH
    if [ "$(id -u)" = 0 ]; then bin=/usr/local/bin; else bin=$HOME/.local/bin; fi
    bin=${CORACLE_INSTALL_DIR:-$bin}
    scratch=$(mktemp -d)
    trap 'end_begun; rm -rf "$scratch"' EXIT

    find_missing_packages
    find_engine
    find_toolchains
    ask
    install_packages
    start_engine
    install_rust
    install_go
    install_coracle
    build_node_image
    ! $create || create_cluster
    next_steps
    ! $run_tests || "$HERE/tests/run"
}

main "$@"
