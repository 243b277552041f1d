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
gcovr --root . --filter lib/ --fail-under-line 90 --print-summary \
    $dir >$dir.report 2>&1 || {
    cat $dir.report
    fail 'less than 90 % of the lines of lib/ were run'
}
cat $dir.report
