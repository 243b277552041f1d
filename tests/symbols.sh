#!/bin/sh
# What the libraries show to a linker, and what they ask of the process.
#
# usage: tests/symbols.sh SHARED STATIC VERSION_SCRIPT [LEFT_OUT]
#
# Names that begin with LEFT_OUT are not built in, and not expected.
set -eu
export LC_ALL=C
shared=$1
static=$2
map=$3
left_out=${4:-none}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

failed=0
wrong()
{
    echo "$*"
    failed=$((failed + 1))
}

# A file of names on one line.
words()
{
    tr '\n' ' ' <"$work/$1"
}

# The shared library exports the names of the version script, all of them and
# no other: neither the inside nor an archive that was linked in.
sed -n 's/^ *\(qrb_[a-z0-9_]*\);$/\1/p' "$map" >"$work/listed"
sort -c "$work/listed" || wrong "the names in $map are not sorted"
nm -D --defined-only "$shared" | awk '$2 != "A" { print $3 }' |
    sed 's/@.*//' | sort >"$work/exported"
comm -13 "$work/listed" "$work/exported" >"$work/leaked"
comm -23 "$work/listed" "$work/exported" | grep -v "^$left_out" \
    >"$work/absent" || true
[ ! -s "$work/leaked" ] ||
    wrong "exported, but not in $map:" "$(words leaked)"
[ ! -s "$work/absent" ] ||
    wrong "in $map, but not defined:" "$(words absent)"
nm -D --defined-only "$shared" | awk '$2 != "A" && $3 !~ /@@QROBUST_/' \
    >"$work/unversioned"
[ ! -s "$work/unversioned" ] ||
    wrong "without a version:" "$(words unversioned)"

# The static library has no name that could meet one of the host's.
nm -g --defined-only "$static" 2>/dev/null |
    awk 'NF == 3 && $3 !~ /^qrb_/ { print $3 }' | sort -u >"$work/foreign"
[ ! -s "$work/foreign" ] ||
    wrong "globals without qrb_ in $static:" "$(words foreign)"

# Our objects neither print nor end the process, keep nothing that is the
# process's own, and allocate, lock and read the environment in core alone.
nm -u "$static" 2>/dev/null | awk '
    /^[^ ].*:$/ { object = $1; next }
    $1 == "U" { print $2, object }' >"$work/wanted"
for name in abort exit _exit quick_exit printf puts putchar fprintf vprintf \
    perror rand srand random srandom drand48 setenv putenv unsetenv setlocale \
    signal sigaction fesetround feenableexcept stdout stderr system longjmp \
    __printf_chk __fprintf_chk qsort qsort_r; do
    if grep "^$name " "$work/wanted" >"$work/hits"; then
        wrong "the library uses $name:" "$(words hits)"
    fi
done
for name in malloc calloc realloc aligned_alloc posix_memalign free getenv \
    secure_getenv fesetenv; do
    grep "^$name " "$work/wanted" | grep -v ' core_' >"$work/hits" || continue
    wrong "outside of core the library uses $name:" \
        "$(words hits)"
done

if [ ! -s "$work/exported" ] || [ ! -s "$work/wanted" ]; then
    wrong "nothing was read"
fi
echo "symbols: $(wc -l <"$work/exported") exported, $failed failures"
[ "$failed" -eq 0 ]
