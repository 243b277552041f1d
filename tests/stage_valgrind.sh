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
export CK_TIMEOUT_MULTIPLIER=100
# Leaks are left to the sanitizers: a child of fork() ends with all that its
# parent has.
run_tests build/stage/valgrind --suite unit --no-suite source \
    --no-suite oracle --no-suite long --timeout-multiplier 30 --wrapper \
    'valgrind -q --error-exitcode=9 --leak-check=no'
