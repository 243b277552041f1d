#!/bin/sh
# What a host of examples/embed/ prints makes sense: attacks hurt, repair
# helps, hardening holds.
#
# usage: tests/embed.sh PROGRAM
set -eu
said=$("$1")
echo "$said"
echo "$said" | sed 's/[,:]//g' | awk '
    function check(holds, what)
    {
        checks++
        if (!holds) {
            print "FAIL: " what
            failures++
        }
    }
    # push: "plain loss L attacked A"
    $1 == "plain" { plain = $5; check($3 < $5, "noise hurts the plain one") }
    $1 == "hardened" {
        check($3 < $5, "noise hurts the hardened one")
        check($5 < 0.8 * plain, "hardening makes noise hurt less")
        clean = $3
    }
    $1 == "attacked" && $2 == "loss" {
        check($3 > 2 * clean, "the attack raises the loss")
        attacked = $3
        distance = $5
    }
    $1 == "repaired" && $2 == "loss" {
        check($3 < 0.5 * attacked, "the repair lowers the loss")
        check($5 < 0.5 * distance, "the anchor pulls the weights back")
    }
    $1 == "largest" { check($4 > 0.5 && $4 <= 1, "the listener has listened") }
    # pull: "clean perplexity P nf4 Q"
    $1 == "clean" {
        check($3 > 2.71 && $3 < 2.9, "the library trains the model")
        check($5 < 1.05 * $3, "nf4 is nearly as good")
        clean = $3
        rounded = $5
    }
    $1 == "noise" { check($7 > 1.18 && $7 < 1.22, "the ratio is met") }
    $1 == "attacked" && $2 == "perplexity" {
        check($3 > 1.1 * clean && $5 > 1.1 * rounded, "the attack hurts")
        attacked = $3
        attacked_rounded = $5
    }
    $1 == "distance" { check($7 < 0.6 * $5, "the anchor pulls") }
    $1 == "repaired" && $2 == "perplexity" {
        check(attacked - $3 > 0.7 * (attacked - clean), "repair recovers")
        check(attacked_rounded - $5 > 0.7 * (attacked_rounded - rounded),
            "repair recovers in nf4")
    }
    END {
        print "embed: " checks " checks, " failures + 0 " failures"
        exit checks < 7 || failures > 0
    }'
