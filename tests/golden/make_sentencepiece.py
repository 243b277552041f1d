#!/usr/bin/env python3
"""A small model with byte fallback, and its ids by SentencePiece.

usage: make_sentencepiece.py OUT

Trains a BPE model as Llama's is on sentencepiece.txt, writes it as OUT/
sentencepiece-tokenizer.json in the way of the transformers library (all splits
of a piece are merges, in order of the piece's score), and the ids that
SentencePiece itself gives as OUT/sentencepiece.json.

SentencePiece replaces broken UTF-8 by U+FFFD.  Here a broken byte is that
byte: it stands in the text as a private character that the model does not
know, and whose four bytes are then replaced by the one.
Needs Debian's python3-sentencepiece.
"""
import json
import os
import sys
import tempfile

import sentencepiece

HERE = os.path.dirname(os.path.abspath(__file__))
STAND_IN = "\U0010f800"
SPACE = "\u2581"


def train(directory):
    prefix = os.path.join(directory, "model")
    sentencepiece.SentencePieceTrainer.train(
        input=os.path.join(HERE, "sentencepiece.txt"), model_prefix=prefix,
        model_type="bpe", vocab_size=620, character_coverage=0.998,
        byte_fallback=True, split_digits=True, num_threads=1,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=True, allow_whitespace_only_pieces=True,
        minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")


def merges(model):
    pieces = {model.id_to_piece(i): i for i in range(model.vocab_size())}
    found = []
    for piece, i in pieces.items():
        splits = [(piece[:k], piece[k:]) for k in range(1, len(piece))
                  if piece[:k] in pieces and piece[k:] in pieces]
        splits.sort(key=lambda s: (pieces[s[0]], pieces[s[1]]))
        found += [(model.get_score(i), left, right)
                  for left, right in splits]
    found.sort(key=lambda m: (m[0], len(m[1]), len(m[2])), reverse=True)
    return [[left, right] for _, left, right in found]


def special(model, i):
    return {"id": i, "content": model.id_to_piece(i), "single_word": False,
            "lstrip": False, "rstrip": False, "normalized": False,
            "special": True}


def template(kind, *parts):
    return [{"SpecialToken": {"id": part, "type_id": 0}} if part == "<s>"
            else {"Sequence": {"id": part, "type_id": kind}}
            for part in parts]


def tokenizer(model):
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [special(model, i) for i in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": SPACE},
            {"type": "Replace", "pattern": {"String": " "},
             "content": SPACE}]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template(0, "<s>", "A"),
            "pair": template(0, "<s>", "A") + template(1, "<s>", "B"),
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1],
                                       "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE},
             "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>",
            "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {model.id_to_piece(i): i
                      for i in range(model.vocab_size())},
            "merges": merges(model)}}


def encode(model, text):
    if "text" in text:
        return model.encode(text["text"])
    data = bytes.fromhex(text["hex"]).decode("utf-8", "surrogateescape")
    broken = [ord(c) & 0xff for c in data if "\udc80" <= c <= "\udcff"]
    ids = model.encode("".join(STAND_IN if "\udc80" <= c <= "\udcff" else c
                               for c in data))
    stand_in = [model.piece_to_id(f"<0x{b:02X}>")
                for b in STAND_IN.encode()]
    for byte in broken:
        at = next(i for i in range(len(ids)) if ids[i:i + 4] == stand_in)
        ids[at:at + 4] = [model.piece_to_id(f"<0x{byte:02X}>")]
    return ids


def main():
    out = sys.argv[1]
    with open(os.path.join(HERE, "texts.json"), encoding="utf-8") as file:
        texts = json.load(file)
    with tempfile.TemporaryDirectory() as directory:
        model = train(directory)
    with open(os.path.join(out, "sentencepiece-tokenizer.json"), "w",
              encoding="utf-8") as file:
        json.dump(tokenizer(model), file, ensure_ascii=False, indent=0)
        file.write("\n")
    golden = {"made_by": f"sentencepiece {sentencepiece.__version__}",
              "ids": {text["name"]: encode(model, text) for text in texts}}
    with open(os.path.join(out, "sentencepiece.json"), "w",
              encoding="utf-8") as file:
        file.write(json.dumps(golden, separators=(",", ":"))
                   .replace('],"', '],\n"') + "\n")


if __name__ == "__main__":
    main()
