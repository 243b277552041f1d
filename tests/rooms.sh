#!/bin/sh
# The rooms of lib/ include only what lib/rooms.txt allows, and name what is
# theirs alone only there.
#
# usage: tests/rooms.sh SOURCE_ROOT
set -eu
cd "$1/lib"

failed=0
checks=0
wrong()
{
    echo "$*"
    failed=$((failed + 1))
}

# Files of the rooms that hold a regular expression outside of comments.
mentions()
{
    grep -rE --include='*.[ch]' "$1" . | grep -vE '^[^:]*: *(/\*|\*)' |
        sed 's|^\./||; s|:.*||' | sort -u
}

for room in */; do
    room=${room%/}
    [ -n "$(find "$room" -name '*.[ch]')" ] || continue
    checks=$((checks + 1))
    if ! allowed=$(grep "^$room:" rooms.txt); then
        wrong "lib/$room is not in rooms.txt"
        continue
    fi
    allowed=" $room ${allowed#*:} "
    includes=$(grep -rhoE --include='*.[ch]' '^ *# *include *"[^"]+"' "$room" |
        sed 's/.*"\(.*\)"/\1/' | sort -u)
    for include in $includes; do
        case $include in
        */*) ;;
        *)
            wrong "lib/$room includes \"$include\" without its room"
            continue
            ;;
        esac
        case $allowed in
        *" ${include%%/*} "*) ;;
        *) wrong "lib/$room includes $include; rooms.txt allows:$allowed" ;;
        esac
    done
done

# A file is found by its name alone, in messages, backtraces and archives.
checks=$((checks + 1))
twice=$(find . -name '*.[ch]' | sed 's|.*/||' | sort | uniq -d)
[ -z "$twice" ] || wrong "not the only files of their names:" $twice

# One home for each of these.
home()
{
    checks=$((checks + 1))
    for file in $(mentions "$2"); do
        case ${file%%/*} in
        "$1") ;;
        *) wrong "lib/$file: $3 belongs to $1 alone" ;;
        esac
    done
}
home tensor '# *include *[<"](blis|cblas)' 'BLIS'
home core '# *include *[<"]omp\.h|# *pragma omp|pthread_create' 'threads'
home core '[^_a-z](malloc|calloc|realloc|free)\(' 'the heap'
home core '[^_a-z](secure_)?getenv\(' 'the environment'
home io '# *include *<(jansson|pcre2)' 'parsing'
home nowhere '[^_a-zA-Z](printf|puts|putchar|perror|exit|abort|rand|srand|setlocale|signal|alloca)\(' \
    'what the host owns'

if [ "$checks" -lt 10 ]; then
    wrong "only $checks checks were made: is $PWD the library?"
fi
echo "rooms: $checks checks, $failed failures"
[ "$failed" -eq 0 ]
