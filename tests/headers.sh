#!/bin/sh
# Every public header compiles alone, without a warning, as C11 and as C++11,
# and has nothing in it whose size another compiler may choose differently.
#
# usage: tests/headers.sh INCLUDE_DIR VERSION_SCRIPT
set -eu
include=$1
map=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

failed=0
checks=0
wrong()
{
    echo "$*"
    failed=$((failed + 1))
}

compile()
{
    checks=$((checks + 1))
    "$@" -I"$include" -fsyntax-only -Wall -Wextra -pedantic -Werror \
        >"$work/log" 2>&1 || {
        cat "$work/log"
        wrong "failed: $*"
    }
}

cxx=
for name in c++ g++ clang++; do
    [ -n "$cxx" ] || cxx=$(command -v $name || true)
done
[ -n "$cxx" ] || echo "SKIP: no C++ compiler for the headers"

for header in "$include"/qrobust/*.h; do
    name=qrobust/${header##*/}
    printf '#include <%s>\n#include <%s>\nint main(void) { return 0; }\n' \
        "$name" "$name" >"$work/alone.c"
    cp "$work/alone.c" "$work/alone.cpp"
    compile "${CC:-cc}" -std=c11 "$work/alone.c"
    [ -z "$cxx" ] || compile "$cxx" -std=c++11 "$work/alone.cpp"

    # Comments out, then what has no fixed width, or a width of one bit.
    sed 's|/\*.*\*/||; /\/\*/,/\*\//d' "$header" >"$work/bare"
    if grep -nE '(^|[ (])(bool|_Bool|long|short|FILE|time_t|off_t)[ *]' \
        "$work/bare" || grep -nE ':[ ]*[0-9]+;' "$work/bare" ||
        grep -nE '^ +enum [a-z_]+ [a-z_]+;|\(enum |, enum ' "$work/bare"; then
        wrong "$name: only types of fixed width, size_t, float, double, pointers"
    fi
done

# Padding at the end of an options struct would be read as the first field
# that is appended to it, and old callers never set it.
printf '#include <qrobust/qrobust.h>\n' >"$work/padding.c"
checks=$((checks + 1))
if "${CC:-cc}" -std=c11 -I"$include" -fsyntax-only -Wpadded "$work/padding.c" \
    2>&1 | grep 'padding struct size'; then
    wrong "a public struct ends in padding"
fi
# What the headers declare is what the version script exports.
checks=$((checks + 1))
for header in "$include"/qrobust/*.h; do
    printf '#include <qrobust/%s>\n' "${header##*/}"
done >"$work/all.c"
"${CC:-cc}" -std=c11 -I"$include" -E -P "$work/all.c" | tr '\n' ' ' |
    tr ';' '\n' | sed -n 's/.*visibility("default"))) *//p' |
    sed 's/ *(.*//; s/.*[ *]//' | sort -u >"$work/declared"
sed -n 's/^ *\(qrb_[a-z0-9_]*\);$/\1/p' "$map" | sort >"$work/listed"
cmp -s "$work/declared" "$work/listed" || {
    diff "$work/declared" "$work/listed" || true
    wrong "< is declared with QRB_API, > is listed in $map"
}
echo "headers: $checks checks, $failed failures"
[ "$checks" -gt 10 ] && [ "$failed" -eq 0 ]
