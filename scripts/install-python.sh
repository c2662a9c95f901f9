#!/bin/sh
# Installs python3 (Debian's package) where there is none: the tests run the examples of docs/WORKERS.md.
set -eu

if command -v python3 >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "python3 is missing and there is no apt-get: install it, then try again" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    as_root=sudo
fi
echo "Installing python3"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 >/dev/null
