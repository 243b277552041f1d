#!/bin/sh
# The pages of the site show no code that is not compiled and run by a test,
# name no places of one machine and no hosts, and README.md has the same
# example as the site.
#
# usage: tests/pages.sh SOURCE_ROOT
set -eu
cd "$1"
checks=0
failed=0
wrong()
{
    echo "FAIL: $*"
    failed=$((failed + 1))
}

# Files that tests run: see docs/snippets/meson.build, examples/embed/,
# examples/quickstart/ and tests/stage_install.sh.
is_run()
{
    name=$(basename "$1")
    case $1 in
    docs/snippets/link/*) grep -q 'docs/snippets/link' tests/stage_install.sh &&
        grep -qE "(\\b|/)${name%.sh}\\b" tests/stage_install.sh ;;
    docs/snippets/*) grep -qE "'${name%.*}'|'$name'" \
        docs/snippets/meson.build ;;
    examples/embed/*.c) grep -q "'${name%.c}'" examples/embed/meson.build ;;
    *) false ;;
    esac
}

pages=$(find docs -name '*.rst')
for page in $pages; do
    checks=$((checks + 1))
    if grep -nE '^ *\.\. (code|code-block|sourcecode|highlight|parsed-literal|raw)::' \
        "$page"; then
        wrong "$page has code that no test sees; put it into docs/snippets/"
    fi
    # A paragraph that ends in :: begins a block of code as well.
    if grep -nE '::[[:space:]]*$' "$page" | grep -vE '^[0-9]+: *\.\. '; then
        wrong "$page has a literal block"
    fi
    if grep -nE 'https?:|www\.|/home/|/root|/usr/local|/work\b|/tmp\b' \
        "$page"; then
        wrong "$page names a host or a place of one machine"
    fi
    for file in $(sed -n 's/^ *\.\. literalinclude:: *//p' "$page"); do
        checks=$((checks + 1))
        case $file in
        /*) file=docs$file ;;
        *) file=$(dirname "$page")/$file ;;
        esac
        path=$(realpath --relative-to=. "$file")
        [ -f "$path" ] || wrong "$page: there is no $path"
        is_run "$path" || wrong "$page: no test runs $path"
    done
done

for header in include/qrobust/*.h; do
    name=$(basename "$header" .h)
    [ "$name" = qrobust ] && continue
    checks=$((checks + 1))
    grep -q "^\.\. doxygenfile:: $name\.h$" "docs/reference/$name.rst" \
        2>/dev/null ||
        wrong "$header has no page: docs/reference/$name.rst, as the others"
done

for room in $(sed -n 's/^\([a-z]*\):.*/\1/p' lib/rooms.txt); do
    checks=$((checks + 1))
    grep -q "^   \* - \`\`$room\`\`$" docs/guide/contributing.rst ||
        wrong "docs/guide/contributing.rst does not tell the room $room"
done

# Figures on the pages of methods are those of results.md, where the commands
# are; a page whose figures are older than the results fails.
for page in docs/methods/*.rst; do
    for figure in $(sed '1,/^In our hands$/d' "$page" |
        grep -oE '[0-9]+\.[0-9]+'); do
        checks=$((checks + 1))
        grep -qE "(^|[^0-9.])$(echo "$figure" | sed 's/\./\\./')([^0-9]|\$)" \
            docs/results.md ||
            wrong "$page: $figure is not in docs/results.md"
    done
done

# Every snippet is on a page.
for file in docs/snippets/*.c docs/snippets/*.sh docs/snippets/link/*; do
    checks=$((checks + 1))
    # shellcheck disable=SC2086 # a list of pages
    grep -qF "snippets/${file#docs/snippets/}" $pages ||
        wrong "no page shows $file"
done

awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' \
    README.md | diff - docs/snippets/start.c ||
    wrong "README.md and docs/snippets/start.c differ"
for file in $(grep -oE 'docs/[a-z_/]+\.(rst|md)' README.md); do
    checks=$((checks + 1))
    [ -f "$file" ] || wrong "README.md names $file, which is not there"
done
echo "pages: $checks checks, $failed failures"
[ "$checks" -ge 30 ] && [ "$failed" -eq 0 ]
