#!/bin/sh
# Installs the Debian packages that are missing, and says which.
#
# usage: sh examples/setup.sh [build] [tests]      (build when nothing is said)
#
#   build  what the library, the program and the quickstart need
#   tests  what tests/run.sh needs besides
#
# Needs root or sudo, and the network, only if something is missing; does
# nothing when all is there.  Of alternatives (a|b) the first is installed
# unless one of them is there.  Optional packages that cannot be had are named
# and left out: the tests that need them say that they skip.
set -eu

# BLIS is called on one thread at a time from the library's own loop, so the
# variant without threads is enough; any of them serves.
build='meson ninja-build gcc libc6-dev pkg-config
    libblis-serial-dev|libblis-openmp-dev|libblis-pthread-dev
    libjansson-dev libpcre2-dev libutf8proc-dev librandom123-dev
    bible-kjv'
tests='check abigail-tools clang cmake doxygen fonts-stix furo g++ gcovr
    libc6-dbg mandoc python3-breathe python3-myst-parser python3-sphinx valgrind
    libopenblas-dev|libopenblas-serial-dev|libopenblas-openmp-dev'
optional='libclang-rt-14-dev|libclang-rt-dev python3-torch python3-numpy
    python3-sentencepiece'

die()
{
    echo "examples/setup.sh: $*" >&2
    exit 1
}

# One word of a list is met if one of its alternatives is installed.
installed()
{
    for package in $(echo "$1" | tr '|' ' '); do
        status=$(dpkg-query -W -f='${db:Status-Status}\n' "$package" \
            2>/dev/null || true)
        case $status in
        *not-*) ;;
        *installed*) return 0 ;;
        esac
    done
    return 1
}

# The first alternatives of the words that are not met.
missing()
{
    for word in $1; do
        installed "$word" || printf ' %s' "${word%%|*}"
    done
}

# Runs a command as root, by sudo if need be.
as_root()
{
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# Packages of the list that the lists of apt know.
available()
{
    for package in $1; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            printf ' %s' "$package"
        fi
    done
}

# What apt says is shown only when it fails.
apt()
{
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1 || {
        grep -E '^(E|W|Err)' "$log" || tail -n 5 "$log"
        return 1
    }
}

apt_install()
{
    # shellcheck disable=SC2086 # a list of packages
    apt install -y -q --no-install-recommends $1
}


want=${*:-build}
required=
optional_too=
for list in $want; do
    case $list in
    build) required="$required $build" ;;
    tests)
        required="$required $tests"
        optional_too=$optional
        ;;
    *) die "no list called $list (only: build, tests)" ;;
    esac
done

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "examples/setup.sh: not a Debian system: nothing is installed here;" \
        "what the build asks for is yours to provide"
    exit 0
fi

need=$(missing "$required")
like=$(missing "$optional_too")
if [ -z "$need$like" ]; then
    echo "set-up: all packages are there ($want)"
    exit 0
fi
echo "set-up: to be installed:${need:- nothing}${like:+; optional:$like}"

by_hand="apt-get install --no-install-recommends$need"
if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
    [ -z "$need" ] || die "neither root nor sudo; run as root: $by_hand"
    echo "set-up: neither root nor sudo: going on without$like"
    exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# The lists of apt are fetched only if they do not know what is wanted.
if [ "$(available "$need$like")" != "$need$like" ]; then
    apt update -q ||
        echo "set-up: apt-get update failed; going on with the lists there are"
fi
if [ -n "$need" ]; then
    apt_install "$need" ||
        { apt update -q && apt_install "$need"; } ||
        die "these could not be installed (network?):$need; by hand: $by_hand"
fi
like=$(available "$like")
if [ -n "$like" ] && ! apt_install "$like"; then
    for package in $like; do
        apt_install "$package" || echo "set-up: no $package"
    done
fi
still=$(missing "$optional_too")
[ -z "$still" ] ||
    echo "set-up: not to be had, tests that need them skip:$still"
need=$(missing "$required")
[ -z "$need" ] || die "still missing after the installation:$need"
echo "set-up: done ($want)"
