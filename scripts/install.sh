#!/bin/sh
# install.sh PACKAGE COMMAND...: installs a Debian package if one of the commands is missing, or always if no command is given.
# Drover starts its own services, so this script neither starts nor enables a service of the package. The script does not touch a
# service that was installed before.
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

is_installed() {
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ]
}

# Debian packages run the program policy-rc.d before they start a service. If a program policy-rc.d exists already, as in
# containers, this script does not replace it.
policy=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
is_new=yes is_policy_ours=
if is_installed; then
    is_new=
fi
remove_policy() {
    if [ -n "$is_policy_ours" ]; then
        is_policy_ours=
        $as_root rm -f "$policy"
    fi
}
trap remove_policy EXIT
trap 'exit 1' INT TERM

echo "Installing $package"
$as_root apt-get update -qq
if [ -n "$is_new" ] && [ ! -e "$policy" ]; then
    is_policy_ours=yes
    # policy-rc.d forbids only starts of the services of the newly installed package: other services may need a restart because a library
    # was updated.
    printf '#!/bin/sh\ncase "$*" in *%s*) exit 101 ;; esac\n' "$package" | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
# The service of a newly installed package must not start when the machine boots either.
if [ -n "$is_new" ] && command -v systemctl >/dev/null && systemctl cat "$package.service" >/dev/null 2>&1; then
    $as_root systemctl disable --quiet --now "$package.service"
fi
