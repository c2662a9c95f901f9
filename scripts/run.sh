#!/bin/bash
# Starts a private Redis with append-only persistence, the producer-api and one consumer-worker; Ctrl-C stops all of them,
# Redis last. If one of the processes ends, the script stops the others. The processes of an example may be killed: the script
# starts a killed process again after a second.
#
# These environment variables may be set:
#   CONFIG       a configuration file for the API and the worker; its redis.url is ignored, because the services use the private Redis
#   REDIS_PORT   the port of Redis: 7379
#   API_PORT     replaces the port of api.bind, 8080 by default
#   WORKER_PORT  replaces the port of worker.bind, 8081 by default
#   DATA         the folder in which Redis keeps the messages: data/
#   BINARIES     a folder with built binaries; without it, this script builds them
#   EXAMPLE      the name of an example system; its file examples/$EXAMPLE/run.sh defines what runs besides:
#                  ports        variable: names of variables with ports that must be free
#                  needs_worker variable: no to start no consumer-worker
#                  prepare      function: installs what the example needs; may choose another folder $data
#                  start        function: starts the example's processes, each with `run NAME COMMAND...`
#                  explain      function: prints what to do
#                  clean_up     function: removes temporary files, after all processes have ended
set -euo pipefail

ports=() needs_worker=yes
prepare() { :; }
start() { :; }
clean_up() { :; }

config=()
if [ -n "${CONFIG:-}" ]; then
    if [ ! -f "$CONFIG" ]; then
        echo "There is no file $CONFIG: name your configuration with CONFIG=…" >&2
        exit 1
    fi
    config=(--config "$(realpath "$CONFIG")")
fi
cd "$(dirname "$0")/.."
data=$(realpath -m "${DATA:-data${EXAMPLE:+/$EXAMPLE}}")
binaries=${BINARIES:-${CARGO_TARGET_DIR:-target}/release}
build=(--package producer-api --package consumer-worker --bins)
if [ -n "${EXAMPLE:-}" ]; then
    CONFIG=examples/$EXAMPLE/drover.toml
    config=(--config "$CONFIG")
    build+=(--package drover-examples --example "$EXAMPLE")
    . "examples/$EXAMPLE/run.sh"
fi

redis_port=${REDIS_PORT:-7379}
export DROVER__REDIS__URL=redis://127.0.0.1:$redis_port
if [ -n "${API_PORT:-}" ]; then
    export DROVER__API__BIND=127.0.0.1:$API_PORT
fi
if [ -n "${WORKER_PORT:-}" ]; then
    export DROVER__WORKER__BIND=127.0.0.1:$WORKER_PORT
fi

is_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

must_be_free() { # must_be_free VARIABLE PORT
    if [ "$2" != 0 ] && is_open "$2"; then
        echo "Port $2 is in use. Stop the process that listens there, or choose another port:" \
            "$1=$(($2 + 1000)) make ${EXAMPLE:+example-}${EXAMPLE:-run}" >&2
        exit 1
    fi
}

# Prints the port on which a service will listen, or 0 if the configuration may name another port: only the binaries read the
# configuration.
known_port() { # known_port SECTION DEFAULT
    local bind=DROVER__$1__BIND
    if [ -n "${!bind:-}" ]; then
        echo "${!bind##*:}"
    elif [ -z "${CONFIG:-}" ] && ! compgen -e "DROVER__$1" >/dev/null; then
        echo "$2"
    else
        echo 0
    fi
}

if [ -z "${BINARIES:-}" ]; then
    # The build takes minutes, so the script reports ports in use before the build.
    must_be_free REDIS_PORT "$redis_port"
    must_be_free API_PORT "$(known_port API 8080)"
    [ "$needs_worker" = no ] || must_be_free WORKER_PORT "$(known_port WORKER 8081)"
    for port in "${ports[@]}"; do
        must_be_free "$port" "${!port}"
    done
    "${CARGO:-cargo}" build --release --locked "${build[@]}"
fi

# The producer-api prints the effective configuration. If the configuration has an error, the producer-api prints what to do, and this
# script ends.
effective=$("$binaries/producer-api" "${config[@]}" --print-config)
bind_of() { # bind_of SECTION
    sed -n "/^\[$1\]/,/^\[/ s/^bind = \"\(.*\)\"/\1/p" <<<"$effective"
}
api_bind=$(bind_of api)
worker_bind=$(bind_of worker)
api_port=${api_bind##*:}
worker_port=${worker_bind##*:}
api_url=http://127.0.0.1:$api_port
if grep -q '^\[api\.tls\]' <<<"$effective"; then
    api_url=https://127.0.0.1:$api_port
fi

must_be_free REDIS_PORT "$redis_port"
must_be_free API_PORT "$api_port"
[ "$needs_worker" = no ] || must_be_free WORKER_PORT "$worker_port"
for port in "${ports[@]}"; do
    must_be_free "$port" "${!port}"
done

# The arrays `names`, `processes` and `commands` have the names of the processes, their ids, and their commands in a form that `eval` reads;
# Redis comes first.
names=() processes=() commands=()

# Each process has its own session, so Ctrl-C reaches only this script, which stops the processes in order.
run() { # run NAME COMMAND...
    names+=("$1")
    shift
    setsid "$@" &
    processes+=($!)
    commands+=("$(printf '%q ' "$@")")
}

stop() {
    trap '' INT TERM
    # Redis stops last, so that the worker and the API can record their work.
    local redis=${processes[0]:-} others=("${processes[@]:1}")
    for process in "${others[@]}"; do
        kill -TERM "$process" 2>/dev/null || true
    done
    for process in "${others[@]}" $redis; do
        if [ "$process" = "$redis" ]; then
            kill -TERM "$redis" 2>/dev/null || true
        fi
        wait "$process" || true
    done
    names=() processes=() commands=()
    clean_up
}
trap 'echo; echo "Stopping"; stop; exit 0' INT TERM
trap stop EXIT

wait_until() { # wait_until NAME PROCESS COMMAND...
    local name=$1 process=$2 tries=0
    shift 2
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ $tries -gt 300 ] || ! kill -0 "$process" 2>/dev/null; then
            echo "$name did not start; its log is in the output above, or for Redis in $data/redis.log" >&2
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

prepare
mkdir -p "$data"
run Redis redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$data" --logfile redis.log \
    --appendonly yes --appendfsync everysec --save '' --maxmemory-policy noeviction
wait_until Redis $! redis-cli -p "$redis_port" ping

run producer-api "$binaries/producer-api" "${config[@]}"
api=$!
worker=
if [ "$needs_worker" = yes ]; then
    run consumer-worker "$binaries/consumer-worker" "${config[@]}"
    worker=$!
fi
# If the API uses TLS, the script waits only until the API listens, and does not ask whether the API is ready.
if [ "${api_url%%:*}" = https ]; then
    wait_until "The API" "$api" is_open "$api_port"
else
    wait_until "The API" "$api" is_ready "$api_port"
fi
# Port 0 means any free port, which only the worker's log names, so the script cannot check that the worker is ready.
if [ -n "$worker" ] && [ "$worker_port" != 0 ]; then
    wait_until "The worker" "$worker" is_ready "$worker_port"
fi

dashboard=
if sed -n '/^\[dashboard\]/,/^\[/p' <<<"$effective" | grep -q '^enabled = true'; then
    dashboard="The dashboard is at $api_url/dashboard."$'\n'
fi

start

if [ -n "${EXAMPLE:-}" ]; then
    explain
    echo "A process that you kill starts again after a second:"
    for index in "${!processes[@]}"; do
        printf '  kill -KILL %-8s # %s\n' "${processes[index]}" "${names[index]}"
    done
    echo
else
    # The default configuration has a route for the queue `my-queue`.
    queue=my-queue
    if [ -n "${CONFIG:-}" ]; then
        queue='<a queue of your routes>'
    fi
    cat <<END

Drover runs. Post a message that is due in 1.5 s, and read its result:

  curl -i -XPOST "$api_url/v1/queues/$queue/messages" -H 'content-type: application/json' -d '{"data":{"hello":1},"delay":1500}'
  curl "$api_url<the Location of the response>?wait=10s"

${dashboard}Redis is at redis://127.0.0.1:$redis_port. Ctrl-C stops everything; the messages stay in $data.

END
fi

# Waits until a process has ended. A process of an example that was killed does not end the wait, but is started again.
supervise() {
    local index status
    if [ -z "${EXAMPLE:-}" ]; then
        wait -n "${processes[@]}" || true
        return
    fi
    while sleep 1; do
        for index in "${!processes[@]}"; do
            if kill -0 "${processes[index]}" 2>/dev/null; then
                continue
            fi
            status=0
            wait "${processes[index]}" || status=$?
            # A process that a signal has killed has a status over 128, and a process that has stopped because of SIGTERM has the status 0.
            if [ "$status" -gt 0 ] && [ "$status" -le 128 ]; then
                return
            fi
            eval "setsid ${commands[index]} &"
            processes[index]=$!
            printf '%s was killed, and runs again: kill -KILL %s\n' "${names[index]}" "$!" >&2
        done
    done
}

supervise
echo "One of the processes has ended: stopping the others" >&2
exit 1
