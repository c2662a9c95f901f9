# The script scripts/run.sh sources this file, which says what to start for the example besides Redis and the API.
#
#   EXAMPLE_PORT  the port of the application: 8092

EXAMPLE_PORT=${EXAMPLE_PORT:-8092}
ports=(EXAMPLE_PORT)
# The example needs no worker, because the application consumes the messages over HTTP.
needs_worker=no
# The example is a program for Node.js, so Cargo does not build it.
build=(--package producer-api --bins)

prepare() {
    . scripts/newer-node.sh
    nest=${CARGO_TARGET_DIR:-target}/nest
    examples/nest/build.sh "$nest"
}

start() {
    DROVER_URL=$api_url PORT=$EXAMPLE_PORT run node "$nest/dist/main.js"
}

explain() {
    cat <<END

The example runs. Add a job; the answer is the job, and its id is in the log:

  curl http://127.0.0.1:$EXAMPLE_PORT -H 'content-type: application/json' -d '{"hello":1}'

After 1.5 s, read the result:

  curl http://127.0.0.1:$EXAMPLE_PORT/<the id>

Redis is at redis://127.0.0.1:$redis_port. Ctrl-C stops everything; the jobs stay in $data.

END
}
