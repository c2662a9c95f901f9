#!/bin/bash
# Starts a private Redis with append-only persistence under data/, the producer-api and one consumer-worker; Ctrl-C
# stops all three, Redis last.
#
# REDIS_PORT (7379), API_PORT (8080) and WORKER_PORT (8081) may be set in the environment.
set -euo pipefail
cd "$(dirname "$0")/.."

redis_port=${REDIS_PORT:-7379}
api_port=${API_PORT:-8080}
worker_port=${WORKER_PORT:-8081}

port_is_taken() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

for setting in "REDIS_PORT $redis_port" "API_PORT $api_port" "WORKER_PORT $worker_port"; do
    read -r name port <<<"$setting"
    if port_is_taken "$port"; then
        echo "Port $port is taken. Stop what listens there, or choose another: $name=$((port + 1000)) make run" >&2
        exit 1
    fi
done

"${CARGO:-cargo}" build --release --locked --package producer-api --package consumer-worker
target=${CARGO_TARGET_DIR:-target}

redis= api= worker=

stop() {
    trap '' INT TERM
    for process in $worker $api; do
        kill -TERM "$process" 2>/dev/null || true
    done
    for process in $worker $api; do
        wait "$process" || true
    done
    # Last, so that the others could record what they had done.
    if [ -n "$redis" ]; then
        kill -TERM "$redis" 2>/dev/null || true
        wait "$redis" || true
    fi
}
trap 'echo; echo "Stopping"; stop; exit 0' INT TERM
trap stop EXIT

until_answers() { # until_answers WHAT COMMAND...
    local what=$1 tries=0
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ $tries -gt 300 ]; then
            echo "$what did not start; its log is above, or in data/redis.log" >&2
            exit 1
        fi
        sleep 0.1
    done
}

is_ready() {
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
    local status
    IFS= read -r status <&3
    exec 3>&-
    [[ $status == *" 200 "* ]]
}

mkdir -p data
# Sessions of their own: Ctrl-C reaches this script, which stops them in order.
setsid redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$PWD/data" --logfile redis.log \
    --appendonly yes --appendfsync everysec --save '' --maxmemory-policy noeviction &
redis=$!
until_answers Redis redis-cli -p "$redis_port" ping

export DROVER__REDIS__URL=redis://127.0.0.1:$redis_port
DROVER__API__BIND=127.0.0.1:$api_port setsid "$target/release/producer-api" &
api=$!
DROVER__WORKER__BIND=127.0.0.1:$worker_port setsid "$target/release/consumer-worker" &
worker=$!
until_answers "The API" is_ready "$api_port"
until_answers "The worker" is_ready "$worker_port"

cat <<END

Drover runs. Post a message that is due in 1.5 s, and read what came of it:

  curl -i -XPOST localhost:$api_port/v1/queues/my-queue/messages -H 'content-type: application/json' -d '{"data":{"hello":1},"delay":1500}'
  curl "localhost:$api_port<the Location that was answered>?wait=10s"

Ctrl-C stops everything; the messages stay in data/.

END

# Whichever ends first, nothing goes on without it.
wait -n "$redis" "$api" "$worker" || true
echo "One of the three has ended: stopping the others" >&2
exit 1
