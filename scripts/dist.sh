#!/bin/bash
# Builds a release: the archive drover-VERSION-ARCHITECTURE-linux.tar.gz with static, stripped binaries, the file SHA256SUMS, and the
# image drover:VERSION if Docker is there.
#
# The binaries are linked statically with the GNU C library, so they need no file of the machine to start. The static libraries of the GNU C
# library come with every C compiler of Debian, while the target of musl would need a second toolchain. The binaries look up names of hosts
# in /etc/hosts and by DNS only, as deploy/static explains.
#
# These environment variables may be set:
#   BINARIES  a folder with built binaries; without it, this script builds them and checks that they are static
#   DIST      the folder of the archive: dist in the target folder
#   DOCKER    the command for the image: docker; with the value none, the script builds no image
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
dist=$(realpath -m "${DIST:-$target/dist}")
docker=${DOCKER:-docker}
version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' Cargo.toml)
architecture=$(uname -m)
name=drover-$version-$architecture-linux
programs=(producer-api consumer-worker)

binaries=${BINARIES:-}
if [ -z "$binaries" ]; then
    triple=$architecture-unknown-linux-gnu
    binaries=$target/$triple/release
    mkdir -p "$binaries"
    "${CC:-cc}" -O2 -fPIE -c -o "$binaries/hosts_by_files_and_dns.o" deploy/static/hosts_by_files_and_dns.c
    # The flag getrandom_backend makes the binaries get random numbers by the system call, because a static binary can't look up the
    # function of the C library. With --target, Cargo does not apply $flags to build scripts and procedural macros, which can't be static.
    flags=(-C target-feature=+crt-static --cfg 'getrandom_backend="linux_getrandom"' -C "link-arg=$binaries/hosts_by_files_and_dns.o")
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}") CARGO_PROFILE_RELEASE_STRIP=symbols \
        "${CARGO:-cargo}" build --release --locked --target "$triple" --bins --package producer-api --package consumer-worker
    for program in "${programs[@]}"; do
        if ! LC_ALL=C ldd "$binaries/$program" 2>&1 | grep -q -e 'statically linked' -e 'not a dynamic executable'; then
            echo "$binaries/$program needs shared libraries: install the static libraries of glibc (libc6-dev), then try again" >&2
            exit 1
        fi
    done
fi
for program in "${programs[@]}"; do
    if [ "$("$binaries/$program" --version)" != "$program $version" ]; then
        echo "$binaries/$program --version does not print \"$program $version\": build it again" >&2
        exit 1
    fi
done

rm -rf "${dist:?}/$name" "$dist/$name.tar.gz"
install -d -m 755 "$dist/$name"/{bin,systemd,docs}
for program in "${programs[@]}"; do
    install -m 755 "$binaries/$program" "$dist/$name/bin"
done
install -m 644 deploy/systemd/*.service "$dist/$name/systemd"
install -m 644 README.md CHANGELOG.md SECURITY.md LICENSE LICENSE-APACHE LICENSE-MIT config/default.toml "$dist/$name"
# Links from one document to another work in the archive, too.
install -m 644 docs/*.* "$dist/$name/docs"
scripts/licenses.sh >"$dist/$name/LICENSES-OF-DEPENDENCIES"

# Equal contents make equal archives: all files have the time of the commit, and belong to root.
time=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
tar --create --directory "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$time" "$name" | gzip --no-name --best \
    >"$dist/$name.tar.gz"
rm -r "${dist:?}/$name"
(cd "$dist" && sha256sum "$name.tar.gz" >SHA256SUMS)
echo "$dist/$name.tar.gz"

if [ "$docker" = none ]; then
    exit 0
fi
if ! problem=$("$docker" info 2>&1 >/dev/null); then
    echo "There is no image: \"$docker info\" fails, so start Docker to get the image drover:$version. $problem" >&2
    exit 0
fi
"$docker" build --tag "drover:$version" .
echo "drover:$version"
