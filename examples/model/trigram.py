#!/usr/bin/env python3
"""Bits per byte of byte trigrams counted on the training text.

usage: trigram.py [DIRECTORY]      (default build/text, see examples/text.sh)

The yardstick of the default model: its bits per byte on the test part are to
be at least 20 % below the better of two estimates from the same counts,
  add-k          (n(abc) + k) / (n(ab) + 257 k),
  interpolation  sum over orders 3, 2, 1, 0 of w_i p_i(c), the weights chosen
                 by how often the two bytes before c have been seen (EM),
where k and the weights are chosen on the validation part alone.  A line that
holds only <|endoftext|> is one symbol with the line ends around it; it is
scored, but not counted among the bytes.
"""

import collections
import math
import sys

SYMBOLS = 257
END = 256
SEPARATOR = b"\n<|endoftext|>\n"


def symbols(path):
    """The symbols of a file, two ENDs in front, and its number of bytes."""
    with open(path, "rb") as file:
        documents = file.read().split(SEPARATOR)
    out = [END, END]
    for i, document in enumerate(documents):
        if i:
            out.append(END)
        out.extend(document)
    return out, sum(map(len, documents))


class Counts:
    def __init__(self, text):
        self.n3 = collections.Counter(zip(text, text[1:], text[2:]))
        self.n2 = collections.Counter(zip(text[1:], text[2:]))
        self.n1 = collections.Counter(text[2:])
        self.total = len(text) - 2
        self.context2 = collections.Counter()
        self.context1 = collections.Counter()
        for (a, b, _), n in self.n3.items():
            self.context2[a, b] += n
        for (b, _), n in self.n2.items():
            self.context1[b] += n

    def orders(self, a, b, c):
        """Estimates of c after a b by orders 3, 2, 1 and 0."""
        n2 = self.context2[a, b]
        n1 = self.context1[b]
        return (self.n3[a, b, c] / n2 if n2 else 0.0,
                self.n2[b, c] / n1 if n1 else 0.0,
                self.n1[c] / self.total, 1.0 / SYMBOLS)

    def bucket(self, a, b):
        return min(self.context2[a, b].bit_length(), 16)


def trigrams(text):
    """Distinct trigrams with how often each occurs."""
    return collections.Counter(zip(text, text[1:], text[2:]))


def add_k_bits(counts, test, k):
    return -sum(n * math.log2((counts.n3[t] + k) /
                              (counts.context2[t[0], t[1]] + SYMBOLS * k))
                for t, n in test.items())


def interpolation_weights(counts, validation, rounds=50):
    """Expectation-maximization of the weights of each bucket."""
    rows = collections.defaultdict(list)
    for (a, b, c), n in validation.items():
        rows[counts.bucket(a, b)].append((n, counts.orders(a, b, c)))
    weights = {}
    for bucket, items in rows.items():
        w = [0.25] * 4
        for _ in range(rounds):
            share = [0.0] * 4
            for n, p in items:
                parts = [wi * pi for wi, pi in zip(w, p)]
                total = sum(parts)
                for i in range(4):
                    share[i] += n * parts[i] / total
            total = sum(share)
            w = [s / total for s in share]
        weights[bucket] = w
    return weights


def interpolated_bits(counts, test, weights):
    bits = 0.0
    for (a, b, c), n in test.items():
        w = weights.get(counts.bucket(a, b), [0.25] * 4)
        # A weight of exactly 0 would make an unseen byte impossible.
        p = sum(wi * pi for wi, pi in zip(w, counts.orders(a, b, c)))
        bits -= n * math.log2(0.999999 * p + 0.000001 / SYMBOLS)
    return bits


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else "build/text"
    parts = {}
    for name in ("train", "validation", "test"):
        parts[name] = symbols("%s/%s.txt" % (directory, name))
    counts = Counts(parts["train"][0])
    validation = trigrams(parts["validation"][0])
    test = trigrams(parts["test"][0])
    test_bytes = parts["test"][1]

    k = min((10.0 ** (e / 4) for e in range(-16, 5)),
            key=lambda k: add_k_bits(counts, validation, k))
    add_k = add_k_bits(counts, test, k) / test_bytes
    weights = interpolation_weights(counts, validation)
    interpolated = interpolated_bits(counts, test, weights) / test_bytes
    best = min(add_k, interpolated)
    print("test bytes                %d" % test_bytes)
    print("add-k, k = %-8.3g       %.4f bits per byte" % (k, add_k))
    print("interpolated             %.4f bits per byte" % interpolated)
    print("a fifth below the better %.4f bits per byte" % (0.8 * best))


if __name__ == "__main__":
    main()
