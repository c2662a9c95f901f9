#!/bin/sh
# Installs axe-core, with which the tests check the dashboard, under the target folder, in a pinned version.
set -eu
cd "$(dirname "$0")/.."

sources=tests/axe
folder=${CARGO_TARGET_DIR:-target}/axe
if cmp -s "$sources/package-lock.json" "$folder/installed-lock.json"; then
    exit 0
fi
mkdir -p "$folder"
cp "$sources/package.json" "$sources/package-lock.json" "$folder"
npm --prefix "$folder" ci --silent --no-fund --no-audit
cp "$sources/package-lock.json" "$folder/installed-lock.json"
