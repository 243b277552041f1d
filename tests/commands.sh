#!/bin/sh
# The commands that the pages show work, on the default model and short texts.
#
# usage: tests/commands.sh SCRIPT PROGRAM SOURCE_ROOT
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
ln -s "$(realpath "$2")" "$work/bin/qrobust"
ln -s "$3/examples/model" "$work/model"
grep -v '^--- sample' "$3/docs/samples.txt" | grep . >"$work/all.txt"
head -n 7 "$work/all.txt" >"$work/train.txt"
sed -n 8p "$work/all.txt" >"$work/validation.txt"
tail -n +8 "$work/all.txt" >"$work/test.txt"
script=$(realpath "$1")
cd "$work"
PATH=$work/bin:$PATH
sh -eu "$script"
grep -q '"recovery"' repair.json
[ -s repaired/model.safetensors ] && [ -s fresh/tokenizer.json ]
