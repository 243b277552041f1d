#!/usr/bin/env python3
"""Ids of the texts by a llama2.c tokenizer.

usage: make_llama2c.py TOKENIZER_BIN OUT

The rules of llama2.c as the naive loops that they are: a space in front, then
the characters or, where the vocabulary has none, their bytes as ids 3 to 258;
then the best-scoring pair of neighbours that is a token, the leftmost of equal
ones, until there is none.  In broken UTF-8 a byte that belongs to no character
is a byte; llama2.c itself takes stray continuation bytes together with the
character before them.
"""
import json
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def load(path):
    with open(path, "rb") as file:
        data = file.read()
    tokens = []
    at = 4
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        tokens.append((data[at + 8:at + 8 + length], score))
        at += 8 + length
    return tokens


def characters(text):
    return [c.encode("utf-8", "surrogateescape")
            for c in text.decode("utf-8", "surrogateescape")]


def encode(tokens, text):
    ids = {token: i for i, (token, _) in enumerate(tokens)}
    if text == b"":
        return []
    symbols = [ids[b" "]]
    for character in characters(text):
        if character in ids:
            symbols.append(ids[character])
        else:
            symbols += [byte + 3 for byte in character]
    while True:
        best = None
        for i in range(len(symbols) - 1):
            joined = tokens[symbols[i]][0] + tokens[symbols[i + 1]][0]
            if joined in ids:
                score = tokens[ids[joined]][1]
                if best is None or score > best[0]:
                    best = (score, i, ids[joined])
        if best is None:
            return symbols
        symbols[best[1]:best[1] + 2] = [best[2]]


def main():
    path, out = sys.argv[1:]
    tokens = load(path)
    with open(os.path.join(HERE, "texts.json"), encoding="utf-8") as file:
        texts = json.load(file)
    ids = {text["name"]: encode(tokens, text["text"].encode()
                                if "text" in text
                                else bytes.fromhex(text["hex"]))
           for text in texts}
    with open(os.path.join(out, "tok512.json"), "w",
              encoding="utf-8") as file:
        file.write(json.dumps({"made_by": "make_llama2c.py", "ids": ids},
                              separators=(",", ":"))
                   .replace('],"', '],\n"') + "\n")


if __name__ == "__main__":
    main()
