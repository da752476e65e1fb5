#!/usr/bin/env bash
# Measures an agent on this machine and prints the tables of docs/benchmarks.md.
#   usage: bench/agent.sh [--only idle,drift,switches,soak] [--apps N] [--files N] [--switches N] [--deploys N]
# LANDFALL_BENCH_DIR is where inputs and hosts are made (4 GiB for the ten apps); default: the target directory.
# LANDFALL_BENCH_PROGRAM is measured instead of a fresh release build.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
program=${LANDFALL_BENCH_PROGRAM:-$target/release/landfall}

if [ -z "${LANDFALL_BENCH_PROGRAM:-}" ]; then
    cargo build --release --bin landfall
fi
cargo build --release --package landfall-bench
uptime
git log -1 --format='commit %h, %s'
exec "$target/release/landfall-bench" --program "$program" --dir "${LANDFALL_BENCH_DIR:-$target/bench/agent}" "$@"
