#!/bin/sh
# Builds prometheus:v1 from Debian's package on top of tools:v1, with the local engine, without a registry.
set -eu
cd "$(dirname "$0")"
../tools/build.sh

if [ -z "$(docker image ls --quiet prometheus:v1)" ]; then
    directory=$(mktemp --directory)
    trap 'rm -rf "$directory"' EXIT
    mmdebstrap --quiet --variant=extract --format=tar --include=prometheus bookworm "$directory/all.tar"
    # Of the package, only the server itself: the user interface is not used here.
    tar --extract --file="$directory/all.tar" --directory="$directory" ./usr/bin/prometheus
    rm "$directory/all.tar"
    printf 'FROM tools:v1\nCOPY usr/bin/prometheus /usr/bin/prometheus\n' >"$directory/Dockerfile"
    docker build --quiet --tag prometheus:v1 "$directory" >/dev/null
fi
echo "Built prometheus:v1 ($(docker image inspect --format '{{.Size}}' prometheus:v1) bytes)"
