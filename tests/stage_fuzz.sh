#!/bin/sh
# Every fuzz target for 20 seconds.  Longer: tests/fuzz/run.sh SECONDS.
. "$(dirname "$0")/stage.sh"
sh tests/fuzz/run.sh 20
