#!/bin/sh
# Doxygen makes the reference of the public headers without a warning.
. "$(dirname "$0")/stage.sh"
if ! command -v doxygen >/dev/null; then
    skip "no doxygen"
    exit 0
fi
dir=build/stage/reference
configure $dir -Ddocs=true -Dtests=false -Dexamples=false
compile $dir docs/html
echo "note: every public name is documented"
