#!/bin/sh
# Makes the default model and its tokenizer again from the text that
# bible-kjv prints: config.json, model.safetensors and tokenizer.json in the
# directory that is named (default build/model).
#
# usage: sh examples/model/make.sh [OUT]        (after the quickstart's build)
#
# The same command gives the same bits with the same kernels (qrobust info).
# A run that was stopped goes on from its last checkpoint.
set -eu
cd "$(dirname "$0")/../.."
out=${1:-build/model}

sh examples/text.sh
build/examples/cli/qrobust train "$out" --text build/text/train.txt \
    --vocab 1024 --dim 128 --layers 6 --heads 8 --kv-heads 4 --hidden 352 \
    --context 256 --batch 8 --steps 3000 --lr 3e-3 --warmup 200 \
    --weight-decay 0.1 --resume
build/examples/cli/qrobust eval "$out" --text build/text/test.txt \
    --precision fp32,fp16,int8,nf4,rtn4g32,rtn4,rtn3
