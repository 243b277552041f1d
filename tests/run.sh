#!/bin/sh
# Every test: set-up, build, then one stage after another.
#
# usage: sh tests/run.sh [quick | STAGE...]
#
#   quick   the unit tests alone, within two minutes
#   STAGE   some of the stages, tests/stage_<STAGE>.sh (each also runs alone)
#
# Ends with 0 if nothing failed.  The last line is
# "<n> passed, <n> failed, <n> skipped": a test on Check is one, and so is a
# stage that is not on Check.  What cannot be tried here is a skip that says
# why.  Logs are in build/stage/.
set -u
cd "$(dirname "$0")/.." || exit 1

# The order is that of what breaks most often.
all='unit warnings openblas plain sanitizers valgrind coverage install abi
    site fuzz llama_cpp model'
case ${1-} in
'') stages=$all ;;
quick) stages=unit ;;
-*)
    sed -n '4,12s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
*) stages=$* ;;
esac

begun=$(date +%s)
passed=0
failed=0
skipped=0
sentence=

finish()
{
    echo "time: $(($(date +%s) - begun)) s"
    if [ "$failed" -eq 0 ]; then
        echo "tests: all well"
    else
        echo "tests: FAILED:$sentence"
    fi
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}

sh examples/setup.sh build tests || {
    failed=1
    sentence=' set-up'
    finish
}
mkdir -p build/stage

for stage in $stages; do
    script=tests/stage_$stage.sh
    log=build/stage/$stage.out
    start=$(date +%s)
    echo "== $stage"
    if [ -f "$script" ]; then
        sh "$script" >"$log" 2>&1
        status=$?
    else
        echo "FAIL $stage: no $script" >"$log"
        status=1
    fi
    # The lines of the tally are added up; a stage without them is one test.
    figures=$(awk '
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ {
            passed += $1; failed += $3; skipped += $5; tallied = 1
            next
        }
        /^SKIP: / { skipped++ }
        END { print passed + 0, failed + 0, skipped + 0, tallied + 0 }' "$log")
    # shellcheck disable=SC2086 # four numbers
    set -- $figures
    p=$1 f=$2 s=$3
    if [ "$status" -ne 0 ]; then
        [ "$f" -gt 0 ] || f=1
        sentence="$sentence $stage"
        grep -v '^ok ' "$log" | tail -n 80
    else
        [ "$4" -eq 1 ] || p=1
        grep -E '^ *SKIP: |^  *[A-Za-z].*%|^note: ' "$log"
    fi
    passed=$((passed + p))
    failed=$((failed + f))
    skipped=$((skipped + s))
    if [ "$status" -eq 0 ]; then
        verdict=ok
    else
        verdict=FAIL
    fi
    echo "$verdict $stage: $p passed, $f failed, $s skipped," \
        "$(($(date +%s) - start)) s"
done
finish
