#!/bin/sh
# usage: tests/fuzz/run.sh [SECONDS [TARGET...]]
#
# Builds the fuzz targets with clang, AddressSanitizer and
# UndefinedBehaviorSanitizer in build/stage/fuzz and runs each for SECONDS
# (20).  New inputs gather in build/stage/fuzz/corpus/, findings in
# build/stage/fuzz/findings/: mend the cause and put the finding into
# tests/fuzz/corpus/TARGET/, where the ordinary tests replay it.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-20}
[ $# -eq 0 ] || shift
clang=${CLANG:-clang}
build=build/stage/fuzz
mkdir -p "$build"

echo 'int LLVMFuzzerTestOneInput(const unsigned char *bytes, unsigned long size);
int LLVMFuzzerTestOneInput(const unsigned char *bytes, unsigned long size)
{
    return bytes != 0 && size == 0;
}' >"$build.c"
if ! "$clang" -fsanitize=fuzzer,address,undefined "$build.c" -o "$build.probe" \
    >"$build.log" 2>&1; then
    echo "SKIP: fuzzing: $clang or its fuzzer runtime is missing" \
        "(on Debian: clang and libclang-rt-14-dev)"
    exit 0
fi

if [ ! -f "$build/build.ninja" ]; then
    CC=$clang meson setup "$build" -Dfuzz=true -Dexamples=false \
        -Ddefault_library=static -Db_lundef=false \
        -Db_sanitize=address,undefined -Doptimization=1 -Ddebug=true \
        >"$build.log" 2>&1 || {
        tail -n 5 "$build.log"
        echo "FAIL fuzz: meson setup"
        exit 1
    }
fi
targets=${*:-$(sed -n "s/^  '\(.*\)',\$/\1/p" tests/fuzz/meson.build)}
# shellcheck disable=SC2086,SC2046 # names of targets have no spaces
ninja -C "$build" $(printf 'tests/fuzz/fuzz_%s ' $targets) \
    >"$build.log" 2>&1 || {
    grep -E 'error|warning|FAILED|undefined' "$build.log" | head -n 20
    echo "FAIL fuzz: ninja"
    exit 1
}

failed=0
mkdir -p "$build/findings"
for target in $targets; do
    mkdir -p "$build/corpus/$target"
    set -- "-max_total_time=$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=65536 "-artifact_prefix=$build/findings/$target-"
    if [ -f "tests/fuzz/$target.dict" ]; then
        set -- "$@" "-dict=tests/fuzz/$target.dict"
    fi
    if UBSAN_OPTIONS=print_stacktrace=1 "$build/tests/fuzz/fuzz_$target" "$@" \
        "$build/corpus/$target" "tests/fuzz/corpus/$target" \
        >"$build/$target.log" 2>&1; then
        echo "fuzz $target: $(grep -o 'Done .*' "$build/$target.log")"
    else
        tail -n 40 "$build/$target.log"
        echo "FAIL fuzz $target: the input is in $build/findings," \
            "the report in $build/$target.log"
        failed=1
    fi
done
exit $failed
