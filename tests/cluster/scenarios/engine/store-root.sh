#!/usr/bin/env bash
# Makes the root file system with Debian 13's engine and Buildx, without what they do not need, and keeps it for the next time:
# store-root.sh ARCHIVE
set -euo pipefail
archive=$1
if [ -e "$archive" ]; then exit 0; fi
mkdir -p "$(dirname "$archive")"
work=$(mktemp --directory)
trap 'rm -rf "$work" "$archive.$$"' EXIT
aside=(--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*')
TMPDIR=$work LC_ALL=C mmdebstrap --quiet --variant=apt --format=tar --include=docker.io,docker-cli,docker-buildx,iptables \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --aptopt='Acquire::Languages "none"' \
    --aptopt='APT::Install-Recommends "false"' "${aside[@]}" trixie "$archive.$$"
mv "$archive.$$" "$archive"
# The one of before, without Buildx.
rm -f "$(dirname "$archive")/debian-13-engine.tar"
