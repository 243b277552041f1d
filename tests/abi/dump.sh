#!/bin/sh
# Writes down the ABI of the shared library of a source tree, built with
# debugging information that no optimizer has thinned out.
#
# usage: tests/abi/dump.sh SOURCE_ROOT BUILD_DIR OUT
#
# What is behind a handle is left out, and so are places in files, so that the
# dump changes only when the interface does.
set -eu
if [ ! -f "$2/build.ninja" ]; then
    meson setup "$2" "$1" -Dbuildtype=debug -Dblas=none -Dtests=false \
        -Dexamples=false -Ddefault_library=shared
fi
version=$(sed -n "s/^ *version: '\([0-9.]*\)',$/\1/p" "$1/meson.build")
ninja -C "$2" "lib/libqrobust.so.$version"
abidw --headers-dir "$1/include" --drop-private-types \
    --exported-interfaces-only --drop-undefined-syms --no-show-locs \
    --no-comp-dir-path --no-corpus-path --no-elf-needed --type-id-style hash \
    --out-file "$3" "$2/lib/libqrobust.so.$version"
