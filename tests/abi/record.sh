#!/bin/sh
# Records the ABI that tests/stage_abi.sh holds every later build against.
#
# usage: sh tests/abi/record.sh
#
# To be run when a release is made, or while none is out after a change of
# the public headers that is meant; the difference belongs in the commit.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p build/stage
sh tests/abi/dump.sh . build/stage/abi tests/abi/qrobust.abi \
    >build/stage/abi.log 2>&1 || {
    tail -n 20 build/stage/abi.log
    exit 1
}
echo "recorded: tests/abi/qrobust.abi," \
    "$(grep -c '<elf-symbol ' tests/abi/qrobust.abi) symbols"
