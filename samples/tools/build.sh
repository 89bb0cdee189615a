#!/bin/sh
# Builds tools:v1, the image of the examples in docs/guides, with the local engine, without a registry.
set -eu
cd "$(dirname "$0")"

if [ -z "$(docker image ls --quiet tools-base:v1)" ]; then
    command -v mmdebstrap >/dev/null || {
        echo "mmdebstrap is not installed: run \`apt-get install mmdebstrap\`" >&2
        exit 1
    }
    echo "Making tools-base:v1 from Debian packages"
    directory=$(mktemp --directory)
    trap 'rm -rf "$directory"' EXIT
    # The packages are unpacked, not configured: that needs no package manager in the image and halves it.
    mmdebstrap --quiet --variant=extract --format=tar --include=busybox,curl,dash,git,libc-bin,media-types,openssl,python3,tini \
        bookworm "$directory/all.tar"
    mkdir "$directory/root"
    tar --extract --file="$directory/all.tar" --directory="$directory/root" --no-same-owner --exclude='./dev/*' \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/locale/*' --exclude='./usr/share/man/*' \
        --exclude='*/perl/*' --exclude='*/perl-base/*' --exclude='./var/lib/apt/*' --exclude='./var/cache/apt/*'
    tar --create --directory="$directory/root" --owner=0 --group=0 . |
        docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - tools-base:v1 >/dev/null
fi

docker build --quiet --tag tools:v1 . >/dev/null
echo "Built tools:v1 ($(docker image inspect --format '{{.Size}}' tools:v1) bytes)"
