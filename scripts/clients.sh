#!/bin/bash
# Generates types from /openapi.json with a generator for TypeScript and one for Python, and compiles programs that use them.
# The script installs everything under the target folder, in pinned versions.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath "${CARGO_TARGET_DIR:-target}")
folder=$target/clients
sources=tests/clients

scripts/install.sh nodejs node
scripts/install.sh npm npm
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    scripts/install.sh python3-venv
fi
mkdir -p "$folder"
if ! cmp -s "$sources/package-lock.json" "$folder/installed-lock.json"; then
    cp "$sources/package.json" "$sources/package-lock.json" "$folder"
    npm --prefix "$folder" ci --silent --no-fund --no-audit
    cp "$sources/package-lock.json" "$folder/installed-lock.json"
fi
if ! cmp -s "$sources/requirements.txt" "$folder/venv/requirements.txt"; then
    rm -rf "$folder/venv"
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$sources/requirements.txt"
    cp "$sources/requirements.txt" "$folder/venv/requirements.txt"
fi
"${CARGO:-cargo}" build --quiet --locked --workspace --bins --examples

# The API serves its OpenAPI document without Redis.
port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
DROVER__API__BIND=127.0.0.1:$port DROVER__REDIS__URL=redis://127.0.0.1:1 "$target/debug/producer-api" >"$folder/api.log" 2>&1 &
api=$!
trap 'kill -TERM $api 2>/dev/null || true; wait' EXIT
fetch() { curl --silent --fail --max-time 10 --output "$folder/openapi.json" "http://127.0.0.1:$port/openapi.json"; }
tries=0
until fetch; do
    tries=$((tries + 1))
    if [ $tries = 100 ]; then
        echo "the API does not serve its OpenAPI document; its log is $folder/api.log" >&2
        exit 1
    fi
    sleep 0.1
done

cp "$sources/client.ts" "$sources/client.py" "$folder"
cd "$folder"
node_modules/.bin/openapi-typescript openapi.json --output drover.d.ts >/dev/null
node_modules/.bin/tsc --noEmit --strict --exactOptionalPropertyTypes --module nodenext --target es2022 client.ts
venv/bin/datamodel-codegen --input openapi.json --input-file-type openapi --output drover.py --formatters builtin \
    --output-model-type pydantic_v2.BaseModel --target-python-version 3.11
venv/bin/python client.py
