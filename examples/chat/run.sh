# The script scripts/run.sh sources this file, which says what to start for the example besides Redis and the API.
#
#   EXAMPLE_PORT  the port of the example's server: 8090

EXAMPLE_PORT=${EXAMPLE_PORT:-8090}
ports=(EXAMPLE_PORT)
# The example needs no worker, because its server consumes the messages over HTTP.
needs_worker=no

start() {
    run chat "$binaries/examples/chat" --drover "$api_url" --bind "127.0.0.1:$EXAMPLE_PORT"
}

explain() {
    cat <<END

The example runs. Open http://127.0.0.1:$EXAMPLE_PORT in two browser windows, log in as alice and as bob, and write to each other.
Write to bob from a terminal, too:

  curl "$api_url/v1/queues/chat-bob/messages" -H 'content-type: application/json' \\
    -d '{"name":"text","group":"terminal","data":{"text":"Hello from curl"}}'

Redis is at redis://127.0.0.1:$redis_port. Ctrl-C stops everything; the messages stay in $data.

END
}
