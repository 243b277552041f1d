# What the stages share; each begins with
#   . "$(dirname "$0")/stage.sh"
# after which it stands in the root of the sources.
#
# A stage prints its findings and ends with 0, or with 1 and one line that
# begins with "FAIL".  "SKIP: why" is a line for each thing that could not be
# tried.  Builds of a stage lie in build/stage/.
set -eu
cd "$(dirname "$0")/.."
stage=$(basename "$0" .sh)
stage=${stage#stage_}
mkdir -p build/stage

fail()
{
    echo "FAIL $stage: $*"
    exit 1
}

skip()
{
    echo "SKIP: $*"
}

# The limits of the tests are for a machine that has nothing else to do.
export CK_TIMEOUT_MULTIPLIER="${CK_TIMEOUT_MULTIPLIER:-5}"

# log_of DIR: where what is said about a build is kept.
log_of()
{
    echo "build/stage/$(basename "$1").log"
}

# configure DIR OPTION...: set a build up, or give it these options again.
configure()
{
    directory=$1
    log=$(log_of "$1")
    shift
    if [ -f "$directory/build.ninja" ]; then
        meson configure "$directory" "$@" >/dev/null
    else
        meson setup "$directory" "$@" >"$log" 2>&1 || {
            tail -n 5 "$log"
            fail "meson setup $directory $*"
        }
    fi
}

# compile DIR [TARGET...]
compile()
{
    log=$(log_of "$1")
    ninja -C "$@" >"$log" 2>&1 || {
        grep -E -A 6 'error:|warning:|FAILED|undefined' "$log" |
            head -n 60
        fail "ninja -C $*"
    }
}

# run_tests DIR ARGUMENT...: meson test, its figures added to the tally.
run_tests()
{
    directory=$1
    log=$(log_of "$1")
    shift
    if meson test -C "$directory" --no-rebuild --timeout-multiplier 5 "$@" >"$log" 2>&1; then
        python3 tests/tally.py "$directory"
    else
        python3 tests/tally.py "$directory"
        fail "meson test -C $directory $*"
    fi
}
