#!/bin/sh
# The unit tests of the smallest build: no engine, no BLAS.
. "$(dirname "$0")/stage.sh"
configure build/stage/plain -Dengine=false -Dblas=none
compile build/stage/plain
run_tests build/stage/plain --suite unit
