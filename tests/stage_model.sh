#!/bin/sh
# The tests that train, repair and evaluate whole models, in build/.
. "$(dirname "$0")/stage.sh"
configure build -Dtests=true -Dexamples=true
compile build
run_tests build --no-suite unit
