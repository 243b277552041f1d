#!/bin/sh
# The program killed at random moments and resumed ends with the same bits as
# one that was not, in train and in repair; SIGINT keeps the checkpoint and
# exits with 1.   usage: program_resume.sh QROBUST
set -eu
qrobust=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"

awk 'BEGIN { srand(1); for (i = 0; i < 400; i++)
    print "verse " int(rand() * 30) " of book " int(rand() * 9) }' > text.txt
shape="--dim 32 --layers 2 --heads 4 --hidden 64 --vocab 280 --context 32"
train="train OUT --text text.txt $shape --batch 4 --steps 300"
repair="repair OUT.in OUT --text text.txt --steps 300"

# words NAME ARGUMENTS...: the arguments with NAME in the place of OUT
words() {
    name=$1
    shift
    printf '%s ' "$@" | sed "s/OUT/$name/g"
    echo --checkpoint-every 7 --quiet
}

# Kill it after ever longer moments until one run is left to finish.
interrupted() {
    kills=0
    for moment in 0.05 0.1 0.13 0.17 0.21 0.26 0.32; do
        "$qrobust" $(words "$@") --resume &
        process=$!
        sleep "$moment"
        if kill -9 "$process" 2> /dev/null; then
            kills=$((kills + 1))
        fi
        wait "$process" 2> /dev/null || true
    done
    "$qrobust" $(words "$@") --resume
    echo "$1: killed $kills times"
}

"$qrobust" $(words whole $train)
interrupted pieces $train
cmp whole/model.safetensors pieces/model.safetensors

cp -r whole whole.in
cp -r whole pieces.in
rm -r whole pieces
"$qrobust" $(words whole $repair)
interrupted pieces $repair
cmp whole/model.safetensors pieces/model.safetensors

status=0
"$qrobust" train stopped --text text.txt $shape --steps 1000000 --quiet \
    2> message.txt &
process=$!
sleep 1
kill -INT "$process"
wait "$process" || status=$?
[ "$status" -eq 1 ] || { echo "SIGINT: status $status, expected 1"; exit 1; }
[ -s stopped.checkpoint ] || { echo "SIGINT: no checkpoint"; exit 1; }
[ "$(wc -l < message.txt)" -eq 1 ] || { cat message.txt; exit 1; }
echo "same bits after kills; SIGINT kept its checkpoint: $(cat message.txt)"
