#!/bin/bash
# build.sh FOLDER: builds the packages in clients/typescript, and this application, into FOLDER. The dependencies are those of the
# packages' own lock file.
set -euo pipefail
folder=$(realpath -m "$1")
cd "$(dirname "$0")/../.."
clients=$PWD/clients/typescript

. scripts/newer-node.sh
# This copy of the lock file, which scripts/node.sh also uses, shows whether the dependencies are installed.
if ! cmp -s "$clients/package-lock.json" "$clients/node_modules/installed-lock.json"; then
    npm --prefix "$clients" ci --silent --no-fund --no-audit
    cp "$clients/package-lock.json" "$clients/node_modules/installed-lock.json"
fi
for package in drover-client drover-nestjs; do
    if [ -n "$(cd "$clients/packages/$package" && find src package.json tsconfig.json -newer dist/cjs/package.json 2>&1)" ]; then
        npm --prefix "$clients" run build --silent --workspace "$package"
    fi
done

mkdir -p "$folder"
rm -rf "$folder/src" "$folder/dist"
cp -r examples/nest/package.json examples/nest/tsconfig.json examples/nest/src "$folder"
ln -sfn "$clients/node_modules" "$folder/node_modules"
"$clients/node_modules/.bin/tsc" --project "$folder"
