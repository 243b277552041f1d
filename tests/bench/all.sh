#!/bin/sh
# Writes the tables of docs/performance.md in Markdown.
#
# usage: sh tests/bench/all.sh [BUILD [LLAMA]]
#
# BUILD is a release build (build); LLAMA a directory with libllama and its
# backends, for the peer of prompts: `npm pack @node-llama-cpp/linux-x64` and
# the folder bins/linux-x64 of the archive.  /usr/bin/python3 needs torch.
# Takes about fifteen minutes; what else runs meanwhile shows in the figures.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-build}/tests/bench
llama=${2:-}
threads=$(nproc)

run() {
    echo
    echo "    $*" | sed "s|$here|tests/bench|g; s|$build/||g"
    echo
    "$@"
}

uptime
"$here/../../${1:-build}/examples/cli/qrobust" --version 2>/dev/null || true
if /usr/bin/python3 -c 'import torch' 2>/dev/null; then
    torch="/usr/bin/python3 $here/peer_torch.py $threads"
    for job in train forward; do
        # shellcheck disable=SC2086
        run "$build/bench_engine" -s 2 -r 5 -j $job -- $torch
    done
    # shellcheck disable=SC2086
    run "$build/bench_engine" -s 0.3 -r 9 -j attention -j attention_grad \
        -- $torch
else
    echo "no torch: ours alone"
    run "$build/bench_engine"
fi
if [ -n "$llama" ]; then
    run "$build/bench_engine" -s 1 -r 7 -j logits \
        -- "$build/peer_llama" "$llama" "$threads"
fi
run "$build/bench_gemm" 1 7 64
run "$build/bench_gemm" "$threads" 7 2048
run "$build/bench_profile" 5
run "$build/bench_growth"
run "$build/bench_generate"
uptime
