#!/bin/sh
# Makes the golden ids again: tokens of the same texts by other
# implementations, which the tests of the tokenizers compare with.
#
# usage: sh tests/golden/make.sh [DATA]
#
#   DATA  has tokenizers/gpt2, tokenizers/gpt-neox and models/stories260K;
#         ../shared/data beside the source by default
#
# Needs node with npm and the network (for @huggingface/tokenizers),
# python3 with the module regex, and Debian's python3-sentencepiece.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
data=${1:-$here/../../../shared/data}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
npm install --no-audit --no-fund --prefix "$work" @huggingface/tokenizers@0.2.0
node "$here/make_npm.mjs" "$work/node_modules/@huggingface/tokenizers" \
    "$data/tokenizers" "$work"
python3 "$here/make_bytes.py" "$data/tokenizers" "$work"
# The module of Debian's package is Debian's python's.
sentencepiece=python3
python3 -c 'import sentencepiece' 2>/dev/null || sentencepiece=/usr/bin/python3
"$sentencepiece" "$here/make_sentencepiece.py" "$work"
python3 "$here/make_llama2c.py" "$data/models/stories260K/tok512.bin" "$work"

for file in gpt2 gpt2-prefix-space gpt2-split-of-llama3 gpt2-split-of-qwen2 \
    gpt-neox sentencepiece sentencepiece-tokenizer tok512; do
    cp "$work/$file.json" "$here/$file.json"
done
echo 'golden ids made'
