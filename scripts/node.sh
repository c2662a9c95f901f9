#!/bin/bash
# Builds and tests the packages for Node.js in clients/typescript, and tests the script there that moves jobs from Bull. With the argument
# `types`, this script tests nothing, and renews the types that are generated from /openapi.json. DROVER_BIN names a folder with ready
# binaries; by default this script builds them.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/newer-node.sh
target=$(realpath "${CARGO_TARGET_DIR:-target}")
if [ -z "${DROVER_BIN:-}" ]; then
    "${CARGO:-cargo}" build --quiet --locked --workspace --bins --examples
    export DROVER_BIN=$target/debug
fi

cd clients/typescript
if ! cmp -s package-lock.json node_modules/installed-lock.json; then
    npm ci --silent --no-fund --no-audit
    cp package-lock.json node_modules/installed-lock.json
fi

if [ "${1:-}" = types ]; then
    # The API serves its OpenAPI document without Redis.
    folder=$(mktemp -d)
    port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => s.close(console.log(s.address().port)))')
    DROVER__API__BIND=127.0.0.1:$port DROVER__REDIS__URL=redis://127.0.0.1:1 "$DROVER_BIN/producer-api" >"$folder/api.log" 2>&1 &
    api=$!
    trap 'kill -TERM $api 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
    node scripts/fetch.mjs "http://127.0.0.1:$port/openapi.json" "$folder/openapi.json"
    node scripts/types.mjs "$folder/openapi.json" packages/drover-client/src/generated/api.ts
    exit
fi

npm run --silent build
npm test
node scripts/check-install.mjs
