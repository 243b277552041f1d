#!/bin/sh
# Line coverage of lib/ by the unit tests: at least 90 %, file by file printed.
. "$(dirname "$0")/stage.sh"
if ! command -v gcovr >/dev/null; then
    skip "no gcovr"
    exit 0
fi
dir=build/stage/coverage
configure $dir -Db_coverage=true -Doptimization=1 -Dexamples=false
compile $dir
find $dir -name '*.gcda' -delete
run_tests $dir --suite unit --no-suite source --timeout-multiplier 5
# gcovr cannot merge functions that stand at another line for each set of
# instructions: those of AVX2 are counted by themselves.
report=$dir.report
avx2=$dir/lib/kernel/libqrobust_avx2.a.p
lines_of()
{
    gcovr --root . --fail-under-line 90 --print-summary "$@" >>$report 2>&1 || {
        cat $report
        fail 'less than 90 % of the lines of lib/ were run'
    }
}
: >$report
lines_of --filter lib/ --exclude-directories '.*avx2.*' $dir
if [ -d $avx2 ]; then
    echo 'AVX2:' >>$report
    lines_of --filter lib/kernel/ $avx2
fi
cat $report
