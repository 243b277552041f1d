#!/bin/sh
# The unit tests with OpenBLAS in the place of BLIS and OpenMP in the place of
# our own threads.
. "$(dirname "$0")/stage.sh"
configure build/stage/openblas -Dblas=openblas -Dopenmp=enabled -Dexamples=false
compile build/stage/openblas
run_tests build/stage/openblas --suite unit
