#!/bin/sh
# gcc and clang compile everything, tests and program too, without a warning.
. "$(dirname "$0")/stage.sh"
for compiler in gcc clang; do
    if ! command -v $compiler >/dev/null; then
        skip "no $compiler"
        continue
    fi
    export CC=$compiler
    configure build/stage/$compiler -Dwerror=true
    compile build/stage/$compiler
    echo "note: $compiler has no warning"
done
