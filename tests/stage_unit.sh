#!/bin/sh
# The unit tests of the ordinary build, in build/.
. "$(dirname "$0")/stage.sh"
configure build -Dtests=true -Dexamples=true
compile build
run_tests build --suite unit
