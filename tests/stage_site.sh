#!/bin/sh
# Doxygen, Breathe and Sphinx make the site without a warning, and its pages
# load nothing from elsewhere.
. "$(dirname "$0")/stage.sh"
dir=build/stage/site
configure $dir -Ddocs=true -Dtests=false -Dexamples=false
# From nothing: pages that are gone would stay, in menus too.
rm -rf $dir/docs/html $dir/docs/doctrees
compile $dir docs/html
html=$dir/docs/html
for page in index reference/model program results; do
    [ -s $html/$page.html ] || fail "there is no page $page"
done
grep -q 'qrb_repair_options' $html/reference/recipe.html ||
    fail "the reference does not tell qrb_repair_options"
if grep -rnE '<(script|link|img|iframe)[^>]*(src|href)="(https?:)?//' $html \
    --include='*.html'; then
    fail "pages load from hosts"
fi
if grep -rlF "$PWD" $html; then
    fail "pages hold paths of this machine"
fi
echo "note: $(find $html -name '*.html' | wc -l) pages," \
    "every public name is documented"
