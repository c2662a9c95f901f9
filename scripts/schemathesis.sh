#!/bin/bash
# Tests the API against its OpenAPI document with all checks of schemathesis. The script starts a private Redis, the API with a key, and
# a worker, on free ports.
#
# These environment variables may be set: SEED (default 1), MAX_EXAMPLES (default 15, the maximum number of random requests for
# each operation), and ACCESS=open, which tests an API without keys. The arguments of this script are passed to schemathesis.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
venv=$target/schemathesis
requirements=tests/schemathesis/requirements.txt

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    scripts/install.sh python3-venv
fi
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi
"${CARGO:-cargo}" build --quiet --locked --workspace --bins --examples

free_ports() {
    python3 -c 'import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(socket.getsockname()[1] for socket in held))'
}

folder=$(mktemp -d)
read -r redis_port api_port <<<"$(free_ports)"
started=()
stop() {
    for process in "${started[@]}"; do
        kill -TERM "$process" 2>/dev/null || true
    done
    wait
    rm -rf "$folder"
}
trap stop EXIT

redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$folder" --save '' --appendonly no >/dev/null &
started+=($!)
until redis-cli -p "$redis_port" ping >/dev/null 2>&1; do sleep 0.1; done

export DROVER__REDIS__URL=redis://127.0.0.1:$redis_port
# The API lets requests wait only for a short time, so that the tests do not take long.
export DROVER__API__MAX_WAIT=50ms
headers=()
if [ "${ACCESS:-keys}" = keys ]; then
    "$target/debug/producer-api" key --id schemathesis --scopes enqueue,read,consume,manage --queues '*' >"$folder/key" 2>/dev/null
    headers=(--header "Authorization: Bearer $(head -n 1 "$folder/key")")
    # The file's first line is the key, the second line is the key's entry in the configuration.
    echo "keys = [$(sed -n 2p "$folder/key")]" >"$folder/keys.toml"
    export DROVER__AUTH__KEYS_FILE=$folder/keys.toml
fi
DROVER__API__BIND=127.0.0.1:$api_port "$target/debug/producer-api" >"$folder/api.log" 2>&1 &
started+=($!)
DROVER__WORKER__BIND=127.0.0.1:0 "$target/debug/consumer-worker" >"$folder/worker.log" 2>&1 &
started+=($!)

tested=0
"$venv/bin/schemathesis" run "http://127.0.0.1:$api_port/openapi.json" --wait-for-schema 30 \
    --checks all --phases examples,coverage,fuzzing,stateful \
    --seed "${SEED:-1}" --max-examples "${MAX_EXAMPLES:-15}" "${headers[@]}" "$@" || tested=$?
if [ $tested != 0 ]; then
    echo "--- the log of the API ---" >&2
    tail -n 50 "$folder/api.log" >&2
fi
exit $tested
