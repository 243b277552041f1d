#!/bin/sh
# The ABI is the recorded one, but for fields at the end of sized structs and
# new functions; and the comparison notices what it is there for: it is tried
# on a copy of the library with a field in the middle of a struct.
. "$(dirname "$0")/stage.sh"
for tool in abidiff abidw; do
    command -v $tool >/dev/null || {
        skip "no $tool"
        exit 0
    }
done
if [ "$(uname -m)" != x86_64 ]; then
    skip "the ABI is recorded for x86_64, and this is $(uname -m)"
    exit 0
fi

# A struct behind a handle whose file is called like a public header is taken
# for public by abidw; hosts never see it.
suppressions=build/stage/abi.abignore
cp tests/abi/appended.abignore $suppressions
handles=$(sed -n 's/^typedef struct \(qrb_[a-z0-9_]*\) \1;$/\1/p' \
    include/qrobust/*.h)
[ -n "$handles" ] || fail "no handle was found in the headers"
for handle in $handles; do
    printf '[suppress_type]\n  type_kind = struct\n  name = %s\n' "$handle"
done >>$suppressions

# compare SOURCE NAME: leaves the status of abidiff in $status and what it
# says in build/stage/NAME.diff.
compare()
{
    sh tests/abi/dump.sh "$1" "build/stage/$2" "build/stage/$2.abi" \
        >"build/stage/$2.log" 2>&1 || {
        tail -n 20 "build/stage/$2.log"
        fail "the library of $1 does not build"
    }
    status=0
    abidiff --suppressions $suppressions --no-added-syms tests/abi/qrobust.abi \
        "build/stage/$2.abi" >"build/stage/$2.diff" || status=$?
}

compare . abi
[ "$status" -eq 0 ] || {
    cat build/stage/abi.diff
    fail "abidiff ends with $status: restore the ABI, or see tests/abi/record.sh"
}
echo "note: the ABI is the recorded one"

# variant NAME SED_COMMAND: a copy whose qrb_tensor_options is changed.
variant()
{
    copy=build/stage/abi_source_$1
    rm -rf "$copy"
    mkdir -p "$copy"
    cp -r meson.build meson_options.txt include lib packaging docs "$copy"
    sed -i "/^typedef struct qrb_tensor_options/,/^}/ { $2
        }" "$copy/include/qrobust/tensor.h"
    ! cmp -s include/qrobust/tensor.h "$copy/include/qrobust/tensor.h" ||
        fail "the variant $1 is no variant"
    compare "$copy" "abi_$1"
}

variant appended 's/^}/    uint64_t appended;\n}/'
[ "$status" -eq 0 ] || {
    cat build/stage/abi_appended.diff
    fail "a field at the end is reported (status $status)"
}
variant inserted 's/^\( *\)uint32_t dtype;/\1uint64_t inserted;\n&/'
[ $((status & 4)) -ne 0 ] || {
    cat build/stage/abi_inserted.diff
    fail "a field in the middle passes (status $status)"
}
echo "note: a field at the end passes, one in the middle ends with $status"
