#!/bin/bash
# Prints the licences of the crates that producer-api and consumer-worker contain. Most of these licences demand that their text goes
# with the binaries. Crates with equal licence texts share one copy of the text.
set -euo pipefail
cd "$(dirname "$0")/.."

sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
# The variable `crates` has one line for each crate, with its name, version and licence.
crates=$("${CARGO:-cargo}" tree --locked --package producer-api --package consumer-worker --edges normal,no-proc-macro \
    --prefix none --no-dedupe --format '{p};{l}' | sed -n 's/^\([^ ]*\) v\([^ ;]*\);/\1;\2;/p' | sort -u)

cat <<'END'
Drover's binaries contain the crates below, and the standard library of Rust (MIT OR Apache-2.0). Statically linked binaries contain
parts of the GNU C library (LGPL-2.1-or-later); to link them with another version of that library, build them from Drover's sources.
END
declare -A first_copy
while IFS=';' read -r name version license; do
    folders=("$sources"/*/"$name-$version")
    if [ ! -d "${folders[0]}" ]; then
        echo "The sources of $name $version are not in $sources: run cargo fetch" >&2
        exit 1
    fi
    printf '\n==== %s %s: %s\n' "$name" "$version" "$license"
    while IFS= read -r file; do
        sum=$(sha256sum <"$file")
        if [ -n "${first_copy[$sum]:-}" ]; then
            printf '\nThe file %s is equal to that of %s.\n' "${file##*/}" "${first_copy[$sum]}"
        else
            first_copy[$sum]="$name $version"
            printf '\n---- %s\n\n' "${file##*/}"
            cat "$file"
        fi
    done < <(find "${folders[0]}" -maxdepth 4 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) \
        ! -name '*.rs' ! -name '*.html' | sort)
done <<<"$crates"
