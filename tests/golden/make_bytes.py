#!/usr/bin/env python3
"""Ids of broken UTF-8 by byte-level BPE, added to what make_npm.mjs wrote.

usage: make_bytes.py TOKENIZERS OUT

An implementation of its own of the rules in qrobust/tokenizer.h: broken bytes
are bytes like any other, neither letter nor digit nor space to the regular
expression, and borders to the normalizer.  A byte that has no token is
U+FFFD.  On text that is not broken it has to agree with npm's ids, or
nothing is written.  Needs the module regex (Debian: python3-regex).
"""
import json
import os
import sys
import unicodedata

import regex

HERE = os.path.dirname(os.path.abspath(__file__))
GPT2 = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
        r"|\s+(?!\S)|\s+")


def alphabet():
    """Bytes to characters, as in GPT-2's encoder.py."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printing]
    table = {b: chr(b) for b in printing}
    table.update({b: chr(256 + n) for n, b in enumerate(others)})
    return table


class Tokenizer:
    def __init__(self, spec):
        model = spec["model"]
        self.vocab = model["vocab"]
        self.ranks = {tuple(m): i for i, m in enumerate(model["merges"])}
        self.whole = model["ignore_merges"]
        self.characters = alphabet()
        self.nfc = (spec["normalizer"] or {}).get("type") == "NFC"
        pre = spec["pre_tokenizer"]
        pattern = GPT2
        if pre["type"] == "Sequence":
            pattern = pre["pretokenizers"][0]["pattern"]["Regex"]
            pre = pre["pretokenizers"][1]
        self.prefix = pre["add_prefix_space"]
        self.pattern = regex.compile(pattern, regex.V0)
        self.added = [{}, {}]
        for token in spec["added_tokens"]:
            self.added[token["normalized"]][token["content"]] = token["id"]

    def cut(self, text, tokens):
        """Pieces of text, and the ids in between."""
        if not tokens:
            return [text]
        names = sorted(tokens, key=len, reverse=True)
        found = regex.split("(" + "|".join(map(regex.escape, names)) + ")",
                            text)
        return [tokens.get(piece, piece) for piece in found if piece != ""]

    def normalize(self, text):
        if not self.nfc:
            return text
        return "".join(unicodedata.normalize("NFC", run)
                       for run in regex.split("([\udc80-\udcff])", text))

    def word(self, word):
        data = word.encode("utf-8", "surrogateescape")
        known = [self.characters[b] in self.vocab for b in data]
        data = b"".join(data[i:i + 1] if known[i] else b"\xef\xbf\xbd"
                        for i in range(len(data)))
        symbols = [self.characters[b] for b in data]
        if self.whole and "".join(symbols) in self.vocab:
            return [self.vocab["".join(symbols)]]
        while True:
            ranks = [(self.ranks.get(pair, len(self.ranks)), i)
                     for i, pair in enumerate(zip(symbols, symbols[1:]))]
            if not ranks or min(ranks)[0] == len(self.ranks):
                return [self.vocab[s] for s in symbols]
            i = min(ranks)[1]
            symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]

    def words(self, text):
        if self.prefix and not text.startswith(" "):
            text = " " + text
        ids = []
        at = 0
        for match in self.pattern.finditer(text):
            for piece in text[at:match.start()], match.group():
                ids += self.word(piece) if piece else []
            at = match.end()
        return ids + (self.word(text[at:]) if at < len(text) else [])

    def encode(self, data):
        ids = []
        text = data.decode("utf-8", "surrogateescape")
        for piece in self.cut(text, self.added[False]):
            if isinstance(piece, int):
                ids.append(piece)
                continue
            for part in self.cut(self.normalize(piece), self.added[True]):
                ids += [part] if isinstance(part, int) else self.words(part)
        return ids


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return json.load(file)


def load(tokenizers, recipe):
    if "file" in recipe:
        return read(tokenizers, recipe["file"])
    spec = recipe["tokenizer"]
    spec["model"]["vocab"] = read(tokenizers, recipe["vocab"])
    with open(os.path.join(tokenizers, recipe["merges"]),
              encoding="utf-8") as file:
        spec["model"]["merges"] = [line.split(" ") for line
                                   in file.read().split("\n") if line]
    return spec


def main():
    tokenizers, out = sys.argv[1:]
    texts = read(HERE, "texts.json")
    for name, recipe in read(HERE, "recipes.json").items():
        tokenizer = Tokenizer(load(tokenizers, recipe))
        golden = read(out, name + ".json")
        broken = {}
        for text in texts:
            if "text" in text:
                ids = tokenizer.encode(text["text"].encode())
                if ids != golden["ids"][text["name"]]:
                    sys.exit(f"{name}: {text['name']}: {ids} is not npm's "
                             f"{golden['ids'][text['name']]}")
            else:
                broken[text["name"]] = tokenizer.encode(
                    bytes.fromhex(text["hex"]))
        golden["broken_made_by"] = "make_bytes.py"
        golden["ids"].update(broken)
        with open(os.path.join(out, name + ".json"), "w",
                  encoding="utf-8") as file:
            file.write(json.dumps(golden, separators=(",", ":"))
                       .replace('],"', '],\n"') + "\n")


if __name__ == "__main__":
    main()
