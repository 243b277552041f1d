#!/bin/sh
# The text of the default model: the King James Bible as Debian's bible-kjv
# prints it, cut into build/text/{train,validation,test}.txt.
#
# usage: sh examples/text.sh [overlap]
#
# Every chapter is one document: its verses without their references, joined
# by spaces, on one line; a line "<|endoftext|>" stands between documents.
#
# Whole books are held out, so that no document is cut and none is in two
# parts.  They are books that no other book retells, one each of story,
# wisdom or poetry, and letter in either part:
#   validation  Esther, Proverbs, Ecclesiastes, Romans  4.6 % of the text
#   test        Job, Daniel, 1 Corinthians              5.0 %
# Of their runs of eight words 0.2 % (validation) and 0.2 % (test) occur in
# the training part, where Matthew, Mark, Luke, Kings and Chronicles would
# give 6 to 13 %; `overlap` counts it again.
#
# Everything is checked by SHA-256.  Parts that are there and right are left
# as they are.
set -eu
cd "$(dirname "$0")/.."

whole=cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d
out=build/text

die()
{
    echo "examples/text.sh: $*" >&2
    exit 1
}

# The sums of the parts, as sha256sum -c reads them.
sums()
{
    cat <<'SUMS'
ed520dbf9bf6db07d606ea23aedbb616e2ce48e2fa30f3cd0cdfc941629488bc  train.txt
7cf2ed1e5d3a02f81aa870a952836fa14b60218c366a1db842ee8e843906853c  validation.txt
ed7531873b2b41093e348a7788c2e210324155a1b096e2692fac54c4b975f5e5  test.txt
SUMS
}

parts_are_right()
{
    (cd "$out" 2>/dev/null && sums | sha256sum --status -c - 2>/dev/null)
}

# Reads "1Sm3:4 text of the verse" and writes $out/<part>.txt.part.
cut_into_parts()
{
    awk -v out="$out" '
        BEGIN {
            held["Est"] = held["Prv"] = held["Eccl"] = "validation"
            held["Rom"] = "validation"
            held["Job"] = held["Dan"] = held["1Cor"] = "test"
        }
        {
            reference = $1
            book = chapter = reference
            sub(/[0-9]+:[0-9]+$/, "", book)
            sub(/:[0-9]+$/, "", chapter)
            part = book in held ? held[book] : "train"
            file = out "/" part ".txt.part"
            if (chapter != last && begun[part]++)
                printf "\n<|endoftext|>\n" > file
            else if (chapter == last)
                printf " " > file
            printf "%s", substr($0, length(reference) + 2) > file
            last = chapter
        }
        END {
            for (part in begun)
                print "" > (out "/" part ".txt.part")
        }'
}

# Share of the eight-word runs of a held-out part that the training part has.
overlap()
{
    for part in validation test; do
        awk -v part="$part" '
            {
                if ($0 == "<|endoftext|>")
                    next
                n = split(tolower($0), word, /[^A-Za-z'\'']+/)
                if (word[n] == "")
                    n--
                for (i = 8; i <= n; i++) {
                    run = word[i - 7]
                    for (k = i - 6; k <= i; k++)
                        run = run " " word[k]
                    if (FILENAME ~ /train/)
                        seen[run]
                    else {
                        runs++
                        if (run in seen)
                            shared++
                    }
                }
            }
            END {
                printf "%s: %d of %d runs of eight words (%.2f %%) are in " \
                    "the training part\n", part, shared, runs,
                    100 * shared / runs
            }' "$out/train.txt" "$out/$part.txt"
    done
}

if ! parts_are_right; then
    bible=$(command -v bible || echo /usr/bin/bible)
    [ -x "$bible" ] || die "no program bible: apt-get install bible-kjv"
    mkdir -p "$out"
    "$bible" -f gen1:1-rev22:21 >"$out/kjv.part" </dev/null ||
        die "bible -f gen1:1-rev22:21 failed"
    [ "$(sha256sum <"$out/kjv.part")" = "$whole  -" ] ||
        die "bible -f gen1:1-rev22:21 is not the text of bible-kjv 4.38"
    cut_into_parts <"$out/kjv.part"
    for part in train validation test; do
        mv "$out/$part.txt.part" "$out/$part.txt"
    done
    rm "$out/kjv.part"
    parts_are_right || die "the parts in $out do not have their checksums"
fi
case ${1-} in
'') ;;
overlap) overlap ;;
*) die "unknown argument $1 (only: overlap)" ;;
esac
