#!/bin/bash
# Builds the version of Drover before this one, for the tests of upgrades, and prints the folder with its sources and the folder of its
# binaries. The version before is the last release before the current commit, or, before the first release, the parent of the current
# commit. BEFORE=COMMIT names another version.
#
# The sources and the binaries are in the folder upgrade of the target folder. If the script runs again for the same version, it builds nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
folder=$target/upgrade
sources=$folder/sources

# A shallow clone may lack the parent of the current commit, so this parent is fetched.
if ! git rev-parse --quiet --verify 'HEAD^1^{commit}' >/dev/null && [ "$(git rev-parse --is-shallow-repository)" = true ]; then
    git fetch --quiet --deepen=1 >&2 || true
fi
if ! parent=$(git rev-parse --verify 'HEAD^1^{commit}'); then
    echo "There is no commit before the current one, from which an upgrade could begin: use a git clone with its history, such as after" \
        "\"git fetch --unshallow\" (in GitHub Actions fetch-depth: 0)" >&2
    exit 1
fi
release=$(git describe --tags --abbrev=0 --match 'v[0-9]*' "$parent" 2>/dev/null || true)
before=${BEFORE:-${release:-$parent}}
if ! commit=$(git rev-parse --verify "$before^{commit}"); then
    echo "There is no commit $before: correct the variable BEFORE" >&2
    exit 1
fi

# Copies those compiled dependencies of the current version that the version before has, too. Libraries are hard links, which need
# no space, because rustc replaces a library instead of changing it. Cargo's own files are real copies instead of links, because Cargo
# changes these files.
copy_dependencies() {
    local members=() libraries=() member
    while IFS= read -r member; do
        members+=(! -name "$member-*")
        libraries+=(! -name "lib${member//-/_}-*")
    done < <(awk '/^name = / { name = $3 } /^source = / { name = "" } /^$/ { if (name) print name; name = "" }' Cargo.lock | tr -d '"')
    mkdir -p "$folder/debug"/{build,deps,.fingerprint}
    (
        cd "$target/debug"
        find build .fingerprint -mindepth 1 -maxdepth 1 "${members[@]}" -exec cp -a --parents -t "$folder/debug" {} +
        find deps -mindepth 1 -maxdepth 1 -name 'lib*' "${libraries[@]}" -exec cp -al --parents -t "$folder/debug" {} +
    )
}

if [ "$(cat "$folder/commit" 2>/dev/null)" != "$commit" ]; then
    rm -rf "$folder"
    mkdir -p "$sources"
    if [ -d "$target/debug/deps" ]; then
        copy_dependencies
    fi
    git archive "$commit" | tar --extract --directory "$sources"
    echo "$commit" >"$folder/commit"
fi
# The build includes an example, because an example needs the development dependencies. With these, all dependencies have the same features
# as in tests, so that cargo uses the libraries that `copy_dependencies` has copied.
(
    cd "$sources"
    CARGO_TARGET_DIR=$folder CARGO_INCREMENTAL=0 "${CARGO:-cargo}" build --quiet --locked --workspace --bins --example sleeper
) >&2
echo "$sources"
echo "$folder/debug"
