#!/bin/sh
# The unit tests with OpenBLAS in the place of BLIS.
. "$(dirname "$0")/stage.sh"
configure build/stage/openblas -Dblas=openblas -Dexamples=false
compile build/stage/openblas
run_tests build/stage/openblas --suite unit
