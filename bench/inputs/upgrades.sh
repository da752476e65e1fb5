#!/usr/bin/env bash
# Makes two real apps in three versions each, for bench/peers.
#   usage: bench/inputs/upgrades.sh DIR [nest|nextapp ...]        (afterwards: DIR/nest-v1 … DIR/nextapp-v3)
# nest: a NestJS backend with its production node_modules (79,251 files, 754 MB). v2 adds one method, v3 bumps nine
# dependencies. nextapp: a Next.js standalone build (2,345 files, 61 MB). v2 edits a page and bumps one dependency, v3
# bumps the framework. Each version lies over the one before it; lockfiles pin every package.
# Every version is a fresh `npm ci` at the same path, as in CI: all times and inodes differ even where bytes do not.
# Needs Node >= 20.9 and npm.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
target=$(mkdir -p "${1:?usage: bench/inputs/upgrades.sh DIR [nest|nextapp ...]}" && cd "$1" && pwd)
shift
export CI=true NEXT_TELEMETRY_DISABLED=1 npm_config_audit=false npm_config_fund=false npm_config_loglevel=error \
    npm_config_update_notifier=false npm_config_legacy_peer_deps=true

# lay_out APP VERSION BUILD_DIR: the sources of a version.
lay_out() {
    local app=$1 version=$2 build=$3 layer
    rm -rf "$build"
    mkdir -p "$build"
    for layer in $(seq 1 "$version"); do
        cp -r "$here/$app/v$layer/." "$build/"
    done
    find "$build" -type f -exec sed -i \
        -e "s/@VERSION@/v$version/" -e "s/@BUILD@/$(printf 'shop-web-v%s' "$version" | sha1sum | cut -c1-20)/" {} +
}

make_nest() {
    local version=$1 build=$target/.work/shop-api out=$target/nest-v$1
    lay_out nest "$version" "$build"
    (
        cd "$build"
        npm ci --ignore-scripts --prefer-offline
        npx tsc -p tsconfig.json
        npm prune --omit=dev --ignore-scripts
    ) </dev/null
    rm -rf "$out"
    mkdir "$out"
    (cd "$build" && cp -a dist node_modules package.json package-lock.json prisma "$out/")
}

make_nextapp() {
    local version=$1 build=$target/.work/shop-web out=$target/nextapp-v$1
    lay_out nextapp "$version" "$build"
    (
        cd "$build"
        npm ci --ignore-scripts --prefer-offline
        mkdir -p public/flags public/fonts
        cp node_modules/flag-icons/flags/4x3/*.svg public/flags/
        cp node_modules/@fontsource/inter/files/inter-latin*-normal.woff2 public/fonts/
        npx next build
    ) </dev/null
    rm -rf "$out"
    cp -a "$build/.next/standalone" "$out"
    mkdir -p "$out/.next"
    cp -a "$build/.next/static" "$out/.next/static"
    cp -a "$build/public" "$out/public"
}

[ $# -gt 0 ] || set -- nest nextapp
for app in "$@"; do
    for version in 1 2 3; do
        "make_$app" "$version"
    done
done
rm -rf "$target/.work"
