#!/bin/sh
# The unit tests under valgrind, which sees what sanitizers do not: reads of
# memory that nobody wrote.  It reports no AVX-512 by CPUID, so this is also
# the run on the kernels below.
. "$(dirname "$0")/stage.sh"
if ! command -v valgrind >/dev/null; then
    skip "no valgrind"
    exit 0
fi
configure build/stage/valgrind -Doptimization=2 -Ddebug=true -Dexamples=false
compile build/stage/valgrind
export CK_FORK=no
run_tests build/stage/valgrind --suite unit --no-suite source --no-suite long \
    --timeout-multiplier 20 --wrapper \
    'valgrind -q --error-exitcode=9 --leak-check=full
        --errors-for-leak-kinds=definite'
