#!/bin/sh
# Checks that cargo and rustc have the version that Cargo.toml requires, before anything is installed or built.
set -eu
cd "$(dirname "$0")/.."

needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

# is_older 1.63.0 1.88: succeeds if the first version is older than the second, by the first two numbers.
is_older() {
    rest=${1#*.} needed_rest=${2#*.}
    [ "${1%%.*}" -lt "${2%%.*}" ] || { [ "${1%%.*}" = "${2%%.*}" ] && [ "${rest%%.*}" -lt "${needed_rest%%.*}" ]; }
}

fail() {
    echo "Drover needs Rust $needed or newer, and $1." >&2
    if command -v rustup >/dev/null; then
        echo "Get it with:  rustup update stable && rustup default stable" >&2
    else
        echo "Get it with rustup, from https://rustup.rs; it can be installed beside the Rust of a distribution:" >&2
        echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
        echo "Open a new shell, or run:  . \"\$HOME/.cargo/env\"" >&2
    fi
    echo "Then try again." >&2
    exit 1
}

for tool in "${CARGO:-cargo}" "${RUSTC:-rustc}"; do
    if ! command -v "$tool" >/dev/null; then
        fail "$tool is not installed"
    fi
    if ! output=$("$tool" --version 2>&1); then
        fail "$tool does not work: $output"
    fi
    version=$(echo "$output" | sed -n 's/^[a-z]* \([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p')
    if [ -z "$version" ]; then
        fail "\"$tool --version\" does not print a version: $output"
    fi
    if is_older "$version" "$needed"; then
        fail "$(command -v "$tool") is $version"
    fi
done
