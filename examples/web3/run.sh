# The script scripts/run.sh sources this file, which says what to start for the example besides Redis, the API and a worker.
#
#   CHAIN_PORT   the port of the local chain: 8545
#   LEDGER_PORT  the port of the ledger: 8091

CHAIN_PORT=${CHAIN_PORT:-8545}
LEDGER_PORT=${LEDGER_PORT:-8091}
ports=(CHAIN_PORT LEDGER_PORT)
temporary=
web3_tools=${CARGO_TARGET_DIR:-target}/web3
export DROVER__WORKER__ROUTES="[{queue = \"payments\", handler = {type = \"http\", url = \"http://127.0.0.1:$LEDGER_PORT/payments\"}}]"

prepare() {
    scripts/web3.sh
    # Each start creates a new chain, so Redis and the ledger begin with an empty folder, too.
    temporary=$(mktemp -d)
    data=$temporary
}

start() {
    rpc=http://127.0.0.1:$CHAIN_PORT
    web3=$binaries/examples/web3
    run anvil "$web3_tools/anvil" --silent --port "$CHAIN_PORT" --block-time 1 --state "$data/chain.json" --state-interval 1
    wait_until "The chain" $! is_open "$CHAIN_PORT"
    contract=$("$web3" --rpc "$rpc" deploy "$web3_tools/Till.bin")
    run "web3 ledger" "$web3" ledger --bind "127.0.0.1:$LEDGER_PORT" --journal "$data/journal"
    run "web3 watch" "$web3" --rpc "$rpc" watch --drover "$api_url" --contract "$contract" --checkpoint "$data/checkpoint" --confirmations 3
}

explain() {
    cat <<END

The example runs. Send ten payments to the contract, and read the balances after a few seconds:

  $web3 --rpc $rpc emit 10 --contract $contract
  curl http://127.0.0.1:$LEDGER_PORT/balances

Redis is at redis://127.0.0.1:$redis_port. Ctrl-C stops everything, and nothing stays.

END
}

clean_up() {
    rm -rf "$temporary"
}
