#!/bin/sh
# The unit tests under AddressSanitizer and UndefinedBehaviorSanitizer.  Check
# does not fork here, or leaks of the tests' process would go unseen.
. "$(dirname "$0")/stage.sh"
configure build/stage/sanitizers -Db_sanitize=address,undefined \
    -Db_lundef=false -Doptimization=1 -Ddebug=true
compile build/stage/sanitizers
export CK_FORK=no
export CK_TIMEOUT_MULTIPLIER=20
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
run_tests build/stage/sanitizers --suite unit --no-suite source \
    --timeout-multiplier 5
