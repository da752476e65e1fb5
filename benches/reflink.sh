#!/bin/sh
# Runs the tests of host files on a file system with reflinks, and fails unless reflinks were really used.
# Needs root and mkfs.xfs. Usage: benches/reflink.sh
set -eu
command -v mkfs.xfs >/dev/null || { echo "mkfs.xfs is missing: install xfsprogs" >&2; exit 1; }
work=$(mktemp -d)
trap 'umount "$work/mnt" 2>/dev/null || true; rm -rf "$work"' EXIT
truncate -s 1G "$work/disk"
mkfs.xfs -q -m reflink=1 "$work/disk"
mkdir "$work/mnt"
mount -o loop "$work/disk" "$work/mnt"
TMPDIR="$work/mnt" LANDFALL_TEST_REFLINKS=1 cargo test -p landfall-store --test cache
