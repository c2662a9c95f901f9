#!/bin/sh
# install.sh PACKAGE COMMAND...: installs a package of Debian's where any of its commands is missing, or, without
# commands, in any case.
set -eu

package=$1
shift
is_there=$#
for command in "$@"; do
    command -v "$command" >/dev/null || is_there=0
done
if [ "$is_there" != 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "$package is missing and there is no apt-get: install it (Redis 7.0 or newer, Python 3.10 or newer), then try again" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    as_root=sudo
fi
echo "Installing $package"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
