#!/bin/sh
# GGUF files of ours in a llama.cpp that others built: the npm package
# node-llama-cpp, of the version in tests/llama_cpp/package.json, installed
# into build/stage/llama_cpp.  Its blocks have the bytes and the values of
# ours, its tokenizer gives our tokens, and its greedy next tokens over 200
# positions are ours: 99 % for float weights, 95 % for types with blocks, where
# it rounds activations too.
. "$(dirname "$0")/stage.sh"
place=build/stage/llama_cpp
least_node=20

if [ "$(uname -sm)" != 'Linux x86_64' ]; then
    skip "llama.cpp: the package that is pinned is for Linux on x86_64"
    exit 0
fi
node=$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\).*/\1/p')
if [ "${node:-0}" -lt "$least_node" ]; then
    skip "llama.cpp: node-llama-cpp needs Node.js $least_node," \
        "found ${node:-none} (Debian 12 has 18)"
    exit 0
fi
mkdir -p "$place"
if ! cmp -s tests/llama_cpp/package.json "$place/installed.json"; then
    cp tests/llama_cpp/package.json "$place/package.json"
    # What is optional are builds for other machines; scripts would build one.
    if ! (cd "$place" && timeout 300 npm install --omit=optional \
        --ignore-scripts --no-package-lock --no-audit --no-fund \
        >npm.log 2>&1); then
        skip "llama.cpp: npm cannot install node-llama-cpp here" \
            "($place/npm.log says why)"
        exit 0
    fi
    cp tests/llama_cpp/package.json "$place/installed.json"
fi
cp tests/llama_cpp/compare.mjs "$place/"

configure build -Dtests=true -Dexamples=true
compile build examples/cli/qrobust tests/llama_cpp/next_tokens \
    tests/llama_cpp/same_blocks
library=$(find "$place/node_modules/@node-llama-cpp" -name libggml-base.so |
    head -n 1)
build/tests/llama_cpp/same_blocks "$library" ||
    fail "blocks are not those of llama.cpp"

# expect NAME MODEL: a file of each type, and what the engine says to it.
expect()
{
    for type in f32 f16 q8_0 q5_1 q5_0 q4_1 q4_0; do
        case $type in
        f*) least=0.99 ;;
        *) least=0.95 ;;
        esac
        build/examples/cli/qrobust convert "$2" "$place/$1.$type.gguf" \
            --type "$type" --quiet
        build/tests/llama_cpp/next_tokens "$place/$1.$type.gguf" \
            tests/llama_cpp/story.txt 200 "$least" >"$place/$1.$type.json"
    done
}

rm -f "$place"/default.* "$place"/stories.*
expect default examples/model
stories=../shared/data/models/stories260K
if [ -d "$stories" ]; then
    expect stories "$stories"
else
    skip "llama.cpp: the stories model is not there"
fi
# shellcheck disable=SC2046 # names without spaces
timeout 300 node "$place/compare.mjs" \
    $(find "$place" -maxdepth 1 -name '[ds]*.*.json' | sort) ||
    fail "llama.cpp and the engine do not agree"
