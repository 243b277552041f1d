#!/bin/sh
# The manual page tells every command and every option of the program, and no
# other.
#
# usage: tests/manual.sh PROGRAM MANUAL_PAGE
set -eu
program=$1
page=$2
failed=0
checks=0
wrong()
{
    echo "$*"
    failed=$((failed + 1))
}

commands=$("$program" --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
options=$(for command in $commands; do
    "$program" "$command" --help | sed -n 's/^ *--\([a-z-]*\).*/\1/p'
done | sort -u)
for command in $commands; do
    checks=$((checks + 1))
    grep -q "^\.SS $command\( \|$\)" "$page" ||
        wrong "the manual does not tell the command $command"
done
for option in $options; do
    checks=$((checks + 1))
    sed 's/\\-/-/g' "$page" | grep -qE -- "--$option([ \"]|\$)" ||
        wrong "the manual does not tell --$option"
done
told=$(sed 's/\\-/-/g' "$page" | grep -oE -- '--[a-z][a-z-]+' |
    sed 's/^--//' | sort -u)
for option in $told; do
    case " $(echo "$options" | tr '\n' ' ') help " in
    *" $option "*) ;;
    *) wrong "the manual tells --$option, which does not exist" ;;
    esac
done
echo "manual: $checks checks, $failed failures"
[ "$checks" -ge 10 ] && [ "$failed" -eq 0 ]
