#!/usr/bin/env bash
# Runs benches/store on a freshly made ext4, beside tar and zstd, and prints the table of docs/benchmarks.md.
#   usage: bench/store.sh              (as root: it mounts a loop device; needs Node >= 20.9 and npm for the input)
# LANDFALL_BENCH_ONLY=pack,host,deploy runs some parts.
# The root disk of a virtual machine may be slow and uneven at creating files; a benchmark there measures the disk.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}/bench
image=$target/disk.img
disk=$target/disk

mkdir -p "$disk"
if [ ! -d "$target/input/node_modules" ]; then
    bench/inputs.sh "$target/input"
fi
cargo bench --bench store --no-run

rm -f "$image"
truncate -s 12G "$image"
mkfs.ext4 -q -F "$image"
mount -o loop,noatime "$image" "$disk"
trap 'umount "$disk"; rm -f "$image"' EXIT
mkdir "$disk/input" "$disk/tmp"
cp -a "$target/input/." "$disk/input/"

uptime
TMPDIR=$disk/tmp LANDFALL_BENCH_DIR=$disk cargo bench --bench store
