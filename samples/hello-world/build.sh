#!/bin/sh
# Builds hello-world:latest with the local engine, without a registry.
set -eu
cd "$(dirname "$0")"

if [ -z "$(docker image ls --quiet hello-world-base:latest)" ]; then
    command -v mmdebstrap >/dev/null || {
        echo "mmdebstrap is not installed: run \`apt-get install mmdebstrap\`, or use a base image from a registry (see Dockerfile)" >&2
        exit 1
    }
    echo "Making hello-world-base:latest from Debian packages"
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    # The packages are unpacked, not configured: that needs no package manager in the image and halves it.
    mmdebstrap --quiet --variant=extract --format=tar --include=busybox,dash,media-types,python3-flask bookworm "$archive"
    tar --delete --file="$archive" --wildcards './usr/share/doc/*' './usr/share/locale/*' './usr/share/man/*' \
        './usr/share/javascript/*' './var/lib/apt/*' './var/cache/apt/*'
    docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        "$archive" hello-world-base:latest >/dev/null
fi

docker build --quiet --tag hello-world:latest . >/dev/null
echo "Built hello-world:latest ($(docker image inspect --format '{{.Size}}' hello-world:latest) bytes)"
