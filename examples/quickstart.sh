#!/bin/sh
# Sets up what is missing, builds, and runs the main job on the model that is
# here: attack, repair, quantize and measure.
#
# usage: sh examples/quickstart.sh
set -eu
cd "$(dirname "$0")/.."

failed()
{
    echo "quickstart: FAILED while $doing; the lines above say why" >&2
    exit 1
}

doing='installing packages'
sh examples/setup.sh build || failed
doing='building in build/'
if [ ! -f build/build.ninja ]; then
    # tests/run.sh adds the tests, which need more packages.
    meson setup build -Dtests=false || failed
fi
ninja -C build examples/cli/qrobust examples/quickstart/quickstart || failed
doing='cutting the text'
sh examples/text.sh || failed
doing='running the main job'
build/examples/quickstart/quickstart build/repaired --model examples/model \
    --text build/text --prompts examples/model/prompts.json \
    --json build/quickstart.json || failed
cat << 'END'
the figures are in build/quickstart.json

Next, your own model (a directory with config.json, safetensors and
tokenizer.json), its text, and a text to measure on:

  build/examples/cli/qrobust repair MODEL OUT --text TEXT --test HELD_OUT \
      --anchor CLEAN_MODEL

Without --anchor the weights as they are serve as the anchor.
END
