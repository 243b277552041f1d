#!/bin/sh
# Perplexity of one model by every method of quantization that the program has,
# with 2, 3, 4 and 8 bits and groups of 32, 128 and whole rows, on text that
# the calibration has not seen; with sizes and times.
#
# usage: sh tests/experiments/quantize.sh MODEL TEXT [TOKENIZER]
#
# The first 200,000 bytes of TEXT calibrate, the next TEST_BYTES (100,000)
# measure.  METHODS, BITS, GROUPS_OF, SAMPLES and CONTEXT, where they are set,
# take the place of all of them, 128 and 512.  Prints rows for docs/results.md.
set -eu
program=${QROBUST:-build/examples/cli/qrobust}
model=$1
text=$2
tokenizer=${3:+--tokenizer $3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -c 200000 "$text" >"$work/calibration.txt"
tail -c +200001 "$text" | head -c "${TEST_BYTES:-100000}" >"$work/test.txt"

# measure DIRECTORY: perplexity on the test text
measure()
{
    # shellcheck disable=SC2086 # the option and its value are two words
    "$program" eval "$1" --text "$work/test.txt" --json "$work/eval.json" \
        --quiet $tokenizer
    sed -n 's/.*"perplexity": \([^,]*\),.*/\1/p' "$work/eval.json"
}

# figure KEY: a number of the quantization's report
figure()
{
    sed -n "s/^  \"$1\": \\([^,]*\\),\$/\\1/p" "$work/quantize.json"
}

# row METHOD BITS GROUP: silent where the method does not exist, or has bits
# or groups of its own
row()
{
    rm -rf "$work/out"
    status=0
    # shellcheck disable=SC2086
    "$program" quantize "$model" "$work/out" --method "$1" --bits "$2" \
        --group-size "$3" --calibration "$work/calibration.txt" \
        --samples "${SAMPLES:-128}" ${CONTEXT:+--context "$CONTEXT"} \
        --json "$work/quantize.json" --quiet $tokenizer \
        2>"$work/errors" || status=$?
    [ "$status" -ne 2 ] || return 0
    # Status 1 with a model: beyond use, which is a result as well.
    [ -d "$work/out" ] || {
        cat "$work/errors" >&2
        exit 1
    }
    printf '| %s | %s | %s | %.3f | %.3f | %.1f |\n' "$1" "$2" \
        "$([ "$3" -eq 0 ] && echo row || echo "$3")" \
        "$(figure bits_per_weight)" "$(measure "$work/out")" \
        "$(figure seconds)"
}

echo "| method | bits | group | bits a weight | perplexity | seconds |"
echo "| --- | --- | --- | --- | --- | --- |"
printf '| float | 32 | | 32 | %.3f | |\n' "$(measure "$model")"
all="rtn smoothquant+rtn gptq awq awq+gptq squeezellm omniquant nf4 int8"
for method in ${METHODS:-$all}; do
    for bits in ${BITS:-2 3 4 8}; do
        for group in ${GROUPS_OF:-32 128 0}; do
            row "$method" "$bits" "$group"
        done
    done
done
