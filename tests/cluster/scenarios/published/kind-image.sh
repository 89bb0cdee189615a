#!/usr/bin/env bash
# Makes an image of the layout of kind's node images out of one of ours: without coracle's labels and shared store, the system
# images packed in containerd's store, and the base files of kind's own release where its Go module can be had:
# kind-image.sh IMAGE NEW_IMAGE
set -euo pipefail

image=$1 new=$2
work=${new%%:*}-make
work=${work//\//-}
trap 'docker rm --force --volumes "$work" >/dev/null 2>&1 || true' EXIT

# Everything below runs in a container of our image, which is then written out as the new one.
inside() {
    set -euo pipefail
    export CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=true
    store=/var/lib/containerd
    blobs=/oci/blobs/sha256
    mkdir -p "$blobs"
    ctr() { command ctr --namespace=k8s.io "$@"; }

    run_containerd() {
        printf 'version = 3\nroot = "%s"\ndisabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]\n' \
            "$1" >/tmp/containerd.toml
        containerd --config /tmp/containerd.toml >/tmp/containerd.log 2>&1 &
        for _ in $(seq 300); do
            if ctr version >/dev/null 2>&1; then return; fi
            sleep 0.1
        done
        tail /tmp/containerd.log >&2
        return 1
    }

    stop_containerd() { if kill "$!"; then wait "$!" || true; fi; }

    # Prints the descriptor of a file that it moves to the blobs.
    blob() {
        local type=$1 file=$2 sum
        sum=$(sha256sum "$file")
        sum=${sum%% *}
        printf '{"mediaType": "%s", "digest": "sha256:%s", "size": %s}' "$type" "$sum" "$(stat --format=%s "$file")"
        mv "$file" "$blobs/$sum"
    }

    # Prints the descriptor of a layer with what is in the directory.
    layer() {
        tar --create --directory="$1" --file=/tmp/layer.tar .
        blob application/vnd.oci.image.layer.v1.tar /tmp/layer.tar
    }

    system=$(layer /usr/lib/coracle/snapshots/1/fs)
    pause=$(layer "$store/io.containerd.snapshotter.v1.overlayfs/snapshots/2/fs")

    run_containerd "$store"
    manifests='[]'
    for name in $(ctr images list --quiet); do
        case "$name" in
            *@*) continue ;;
            */pause:*) content=$pause ;;
            *) content=$system ;;
        esac
        digest=$(ctr images list "name==$name" | awk 'NR == 2 { print $3 }')
        ctr content get "$digest" >/tmp/manifest
        ctr content get "$(jq -r .config.digest /tmp/manifest)" |
            jq --argjson layer "$content" '.rootfs.diff_ids = [$layer.digest]' >/tmp/config
        config=$(blob application/vnd.oci.image.config.v1+json /tmp/config)
        jq -n --argjson config "$config" --argjson layer "$content" '{schemaVersion: 2,
            mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: [$layer]}' >/tmp/manifest
        manifest=$(blob application/vnd.oci.image.manifest.v1+json /tmp/manifest)
        manifests=$(jq -n --argjson all "$manifests" --argjson one "$manifest" --arg name "$name" \
            '$all + [$one + {annotations: {"io.containerd.image.name": $name}}]')
    done
    stop_containerd
    [ "$manifests" != '[]' ]
    jq -n --argjson manifests "$manifests" '{schemaVersion: 2, manifests: $manifests}' >/oci/index.json
    echo '{"imageLayoutVersion": "1.0.0"}' >/oci/oci-layout

    run_containerd /packed
    # As kind's build does it: what is not unpacked has no snapshot.
    tar --create --directory=/oci . | ctr images import --label=io.cri-containerd.pinned=pinned --all-platforms \
        --no-unpack --digests - >/dev/null
    stop_containerd
    rm -rf /oci "$store" /usr/lib/coracle /usr/local/lib/coracle /tmp/*
    # What only coracle's images have.
    rm -f /usr/sbin/haproxy "$(command -v etcdctl)"
    mv /packed "$store"

    if [ -e /kind-base ]; then
        cp --recursive --no-preserve=mode /kind-base/. /
        rm -rf /kind-base /etc/systemd/system.conf.d /etc/systemd/journald.conf.d
        chmod 755 /usr/local/bin/entrypoint /kind/bin/*.sh
        command ctr oci spec >/etc/containerd/cri-base.json
        ln -s /etc/systemd/system/undo-mount-hacks.service /etc/systemd/system/multi-user.target.wants/
    fi
}

docker create --name "$work" --entrypoint bash "$image" -c "$(declare -f inside); inside" >/dev/null
if module=$(GOFLAGS=-mod=mod go mod download -json sigs.k8s.io/kind@v0.33.0 2>/dev/null); then
    base=$(jq -r .Dir <<<"$module")/images/base/files
    docker cp --quiet "$base/." "$work:/kind-base" 2>/dev/null || docker cp "$base/." "$work:/kind-base" >/dev/null
else
    echo "without the base files of kind: its Go module cannot be had"
fi
docker start --attach "$work"
docker export "$work" | docker import - "$new" >/dev/null
docker build --quiet --tag "$new" - >/dev/null <<DOCKERFILE
FROM $new
ENV container=docker PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]
DOCKERFILE
