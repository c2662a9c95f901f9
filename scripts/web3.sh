#!/bin/bash
# Installs the local chain and the compiler of examples/web3 in pinned versions, and compiles the contract. The script installs
# everything in the folder web3 of the target folder: the program `anvil` and the contract's code Till.bin.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
folder=$target/web3
sources=examples/web3

scripts/install.sh nodejs node
scripts/install.sh npm npm
mkdir -p "$folder"
if ! cmp -s "$sources/package-lock.json" "$folder/installed-lock.json"; then
    cp "$sources/package.json" "$sources/package-lock.json" "$folder"
    npm --prefix "$folder" ci --silent --no-fund --no-audit
    # npm installs the package for the architecture of the machine.
    (cd "$folder" && ln -sf node_modules/@foundry-rs/anvil-linux-*/bin/anvil anvil)
    cp "$sources/package-lock.json" "$folder/installed-lock.json"
fi
if ! cmp -s "$sources/Till.sol" "$folder/Till.sol" || [ ! -f "$folder/Till.bin" ]; then
    cp "$sources/Till.sol" "$folder/Till.sol.new"
    rm -f "$folder/Till.bin"
    (cd "$sources" && "$folder/node_modules/.bin/solcjs" --bin --optimize --output-dir "$folder" Till.sol)
    mv "$folder/Till_sol_Till.bin" "$folder/Till.bin"
    mv "$folder/Till.sol.new" "$folder/Till.sol"
fi
