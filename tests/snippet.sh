#!/bin/sh
# A program that the pages show prints what they say that it prints.
#
# usage: tests/snippet.sh PROGRAM EXPECTED
#
# The program is given the path of a file that does not exist yet.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$1" "$work/file" >"$work/said"
diff "$2" "$work/said" || {
    echo "FAIL: $1 does not print what $2 holds"
    exit 1
}
