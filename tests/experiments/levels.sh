#!/bin/sh
# Attack and repair of one model at three noise levels, measured in each
# precision on text that none of the steps has seen.
#
# usage: sh tests/experiments/levels.sh MODEL TEXT [TOKENIZER]
#
# The first 300,000 bytes of TEXT adapt and repair, the next 80,000 calibrate
# the attack, the rest measures.  Prints the rows of docs/results.md.
set -eu
program=${QROBUST:-build/examples/cli/qrobust}
model=$1
text=$2
tokenizer=${3:+--tokenizer $3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -c 300000 "$text" >"$work/train.txt"
head -c 380000 "$text" | tail -c 80000 >"$work/calibration.txt"
tail -c +380001 "$text" >"$work/test.txt"

# shellcheck disable=SC2086 # the option and its value are two words
{
    "$program" train "$work/clean" --from "$model" --text "$work/train.txt" \
        --steps 400 --quiet $tokenizer
    for ratio in 1.10 1.15 1.20; do
        "$program" attack "$work/clean" "$work/attacked" --ratio $ratio \
            --text "$work/calibration.txt" --quiet
        "$program" repair "$work/attacked" "$work/repaired" \
            --anchor "$work/clean" --text "$work/train.txt" \
            --test "$work/test.txt" --json "$work/$ratio.json" --quiet
    done
}
python3 - "$work" <<'END'
import json, sys

print('| ratio | weights | fp32 | fp16 | int8 | nf4 | rtn4g32 |')
print('| --- | --- | --- | --- | --- | --- | --- |')
names = ['fp32', 'fp16', 'int8', 'nf4', 'rtn4g32']
for ratio in ['1.10', '1.15', '1.20']:
    with open(f'{sys.argv[1]}/{ratio}.json') as file:
        report = json.load(file)
    for weights in ['attacked', 'repaired', 'anchor']:
        row = report['perplexity'][weights]
        print(f'| {ratio} | {weights} | '
              + ' | '.join(f'{row[name]:.4f}' for name in names) + ' |')
    print(f'| {ratio} | recovery % | '
          + ' | '.join(f"{report['recovery'][name]:.1f}" for name in names)
          + ' |')
END
