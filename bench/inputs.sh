#!/usr/bin/env bash
# Makes the benchmark input: the production node_modules of a plausible backend, about 30,000 files and 400 MB.
#   usage: bench/inputs.sh DIR        (afterwards: DIR/node_modules)
# Versions and hashes are pinned by bench/inputs/package-lock.json. Needs Node >= 20.9 and npm.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
target=${1:?usage: bench/inputs.sh DIR}

mkdir -p "$target"
cp "$here"/inputs/package.json "$here"/inputs/package-lock.json "$target/"
cd "$target"
npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null
rm -f node_modules/.package-lock.json      # npm's own note, the only file with times of this machine in it
printf '%s files, %s bytes in %s\n' \
    "$(find node_modules -type f | wc -l)" "$(du -sb --apparent-size node_modules | cut -f1)" "$PWD/node_modules"
