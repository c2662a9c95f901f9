# The script scripts/run.sh sources this file, which says what to start for the example besides Redis and the API.
#
#   EXAMPLE_PORT  the port of the example's server: 8090

EXAMPLE_PORT=${EXAMPLE_PORT:-8090}
ports=(EXAMPLE_PORT)
# The example needs no worker, because its server consumes the messages over HTTP.
needs_worker=no

start() {
    run notifications "$binaries/examples/notifications" --drover "$api_url" --bind "127.0.0.1:$EXAMPLE_PORT"
}

explain() {
    cat <<END

The example runs. Notify the user ada, who is away:

  curl "$api_url/v1/queues/notifications/messages" -H 'content-type: application/json' \\
    -d '{"data":"Your parcel has arrived.","group":"ada","hold":"online:ada"}'

Then log in as ada: open http://127.0.0.1:$EXAMPLE_PORT in a browser.
Redis is at redis://127.0.0.1:$redis_port. Ctrl-C stops everything; the notifications stay in $data.

END
}
