#!/bin/sh
# Installs into a temporary prefix, then builds and runs the example of
# README.md as other projects would: by pkg-config, by plain cc with the static
# archive, by CMake and as a Meson subproject.  The example is cut out of
# README.md itself; commands and build files are those that the site shows.
. "$(dirname "$0")/stage.sh"
tree=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# check ROUTE PROGRAM [VARIABLE=VALUE]: runs it, and looks at what it links.
expected='-0.26 as nf4: -0.2844 '
check()
{
    route=$1
    program=$2
    shift 2
    if ! said=$(env "$@" "$program" 2>&1) || [ "$said" != "$expected" ]; then
        echo "FAIL install: $route: the example says: $said"
        failed=$((failed + 1))
        return
    fi
    linked=no
    if readelf -d "$program" | grep -q 'NEEDED.*libqrobust\.so\.0\]'; then
        linked=yes
    fi
    case $route in
    *static) right=no ;;
    *) right=yes ;;
    esac
    if [ $linked != $right ]; then
        echo "FAIL install: $route: needs libqrobust.so.0: $linked"
        failed=$((failed + 1))
        return
    fi
    echo "ok   $route"
    passed=$((passed + 1))
}

# must LOG COMMAND...: a step whose failure ends the stage.
must()
{
    log=$work/$1.log
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 40 "$log"
        fail "$*"
    }
}

links=$tree/docs/snippets/link
awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' \
    README.md >"$work/main.c"
lines=$(wc -l <"$work/main.c")
if [ "$lines" -lt 10 ] || [ "$lines" -gt 25 ]; then
    fail "the example of README.md has $lines lines"
fi

# As the site says it, from a tree of links, so that build/ stays what it is.
parts='meson.build meson_options.txt include lib packaging docs examples tests'
mkdir -p build/stage/install
for part in $parts; do
    ln -sfn "$tree/$part" "build/stage/install/$part"
done
rm -rf build/stage/install/first
must install env -C build/stage/install prefix="$tree/build/stage/install/first" \
    sh -eu "$links/install.sh"

# Whatever finds the installed tree finds it where it was moved to; pkg-config
# files hold the prefix, so theirs is told.
mv build/stage/install/first "$work/prefix"
prefix=$work/prefix
libdir=$(dirname "$(find "$prefix" -name libqrobust.a)")
for file in include/qrobust/qrobust.h share/man/man1/qrobust.1 bin/qrobust; do
    [ -e "$prefix/$file" ] || fail "$file is not installed"
done
for header in include/qrobust/*.h; do
    [ -e "$prefix/$header" ] || fail "$header is not installed"
done
must program env LD_LIBRARY_PATH="$libdir" "$prefix/bin/qrobust" info

sed -i "s|^prefix=.*|prefix=$prefix|" "$libdir/pkgconfig/qrobust.pc"
export PKG_CONFIG_PATH="$libdir/pkgconfig"
export prefix libdir
for route in pkg_config_shared pkg_config_static archive; do
    mkdir "$work/$route"
    cp "$work/main.c" "$work/$route"
    must $route env -C "$work/$route" sh -eu "$links/$route.sh"
done
must compiler "${CC:-cc}" -std=c11 -Wall -Wextra -Werror -c "$work/main.c" \
    -I"$prefix/include" -o "$work/main.o"
check 'pkg-config, shared' "$work/pkg_config_shared/main" \
    LD_LIBRARY_PATH="$libdir"
check 'pkg-config, static' "$work/pkg_config_static/main"
check 'plain cc with the archive, static' "$work/archive/main"

if command -v cmake >/dev/null; then
    mkdir "$work/cmake"
    cp "$work/main.c" "$work/cmake"
    cp "$links/CMakeLists.txt" "$work/cmake"
    cat >>"$work/cmake/CMakeLists.txt" <<'CMAKE'
find_package(qrobust 0.1 REQUIRED) # twice: must not define targets again
find_package(qrobust 0.2 QUIET)
if(qrobust_FOUND)
    message(FATAL_ERROR "a version that is not there was found")
endif()
CMAKE
    must cmake cmake -S "$work/cmake" -B "$work/cmake/build" -G Ninja \
        -DCMAKE_PREFIX_PATH="$prefix"
    must cmake_build cmake --build "$work/cmake/build"
    check 'CMake, shared' "$work/cmake/build/shared"
    check 'CMake, static' "$work/cmake/build/static"
else
    skip "no cmake"
fi

# A subproject is configured by its parent, which has no prefix to find.
unset PKG_CONFIG_PATH
user=$work/user
mkdir -p "$user/subprojects/qrobust"
cp "$work/main.c" "$user"
for part in $parts; do
    ln -s "$tree/$part" "$user/subprojects/qrobust/$part"
done
cp "$links/meson.build" "$user"
must meson meson setup "$user/build" "$user" -Doptimization=0 \
    -Dqrobust:tests=false -Dqrobust:examples=false
must ninja ninja -C "$user/build" shared static
check 'Meson subproject, shared' "$user/build/shared"
check 'Meson subproject, static' "$user/build/static"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
