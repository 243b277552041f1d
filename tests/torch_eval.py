#!/usr/bin/env python3
"""The program's perplexities against an independent computation in PyTorch.

usage: torch_eval.py QROBUST SHARED [BYTES]

Model, tokenizer, quantizers and windows are written here a second time, from
the formulas, and must agree with `qrobust eval` on stories260K and the first
BYTES (default 8000) of its text: to 1e-4 relative in every precision and
mode, with equal counts of scored tokens.  Exits with 77 (skipped) where
PyTorch or the shared data is missing.
"""

import json
import math
import os
import struct
import subprocess
import sys
import tempfile

CONTEXT = 256
STRIDE = 96
PRECISIONS = ["fp32", "fp16", "bf16", "int8", "nf4", "rtn4", "rtn3", "rtn4g32"]
MODES = ["sliding", "blocks", "llamacpp"]
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
       -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
       0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
       0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
       0.7229568362236023, 1.0]


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


try:
    import torch
except ImportError:
    skip("python3-torch is not installed")


def read_model(path):
    """llama2.c, version 0: a header of seven int32, then float32 tensors."""
    with open(path, "rb") as file:
        data = file.read()
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack_from(
        "<7i", data)
    at = 28
    kv = dim // heads * kv_heads

    def take(*shape):
        nonlocal at
        count = math.prod(shape)
        tensor = torch.frombuffer(bytearray(data[at:at + 4 * count]),
                                  dtype=torch.float32).reshape(shape)
        at += 4 * count
        return tensor

    model = {"embed": take(abs(vocab), dim), "norm1": take(layers, dim),
             "q": take(layers, dim, dim), "k": take(layers, kv, dim),
             "v": take(layers, kv, dim), "o": take(layers, dim, dim),
             "norm2": take(layers, dim), "gate": take(layers, hidden, dim),
             "down": take(layers, dim, hidden),
             "up": take(layers, hidden, dim), "norm": take(dim)}
    return model, heads, kv_heads, context


def read_tokenizer(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 4
    pieces = []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        pieces.append((data[at + 8:at + 8 + length], score))
        at += 8 + length
    return pieces


def tokenize(pieces, text):
    """A space in front, characters or bytes, then the best pair, greedily."""
    ids = {}
    for i, (piece, _) in enumerate(pieces):
        ids.setdefault(piece, i)
    tokens = []
    for character in " " + text:
        raw = character.encode()
        if raw in ids:
            tokens.append(ids[raw])
        else:
            tokens.extend(byte + 3 for byte in raw)
    while True:
        best = None
        for i in range(len(tokens) - 1):
            merged = ids.get(pieces[tokens[i]][0] + pieces[tokens[i + 1]][0])
            if merged is not None and (
                    best is None or pieces[merged][1] > best[0]):
                best = (pieces[merged][1], i, merged)
        if best is None:
            return tokens
        tokens[best[1]:best[1] + 2] = [best[2]]


def tokenize_fast(pieces, text):
    """tokenize() word by word: no piece has a space but at its start."""
    assert all(b" " not in piece[1:] for piece, _ in pieces[259:])
    out = []
    cache = {}
    for i, word in enumerate((" " + text).split(" ")[1:]):
        if word not in cache:
            cache[word] = tokenize(pieces, word)
        out.extend(cache[word])
    return out


def rtn(w, bits, group):
    """Asymmetric grid that contains zero, in double (A_GPTQ).  Zeros fill
    the last group of a row: they change no range that contains zero."""
    top = 2 ** bits - 1
    group = group or w.shape[1]
    g = torch.nn.functional.pad(w.double(), (0, -w.shape[1] % group))
    cols = g.shape[1]
    g = g.reshape(-1, group)
    low = g.min(1, keepdim=True).values.clamp(max=0)
    high = g.max(1, keepdim=True).values.clamp(min=0)
    step = (high - low) / top
    zero = torch.round(-low / step)
    code = (torch.round(g / step) + zero).clamp(0, top)
    value = (step * (code - zero)).reshape(-1, cols)
    return value[:, :w.shape[1]].float()


def int8(w):
    scale = w.abs().max(1, keepdim=True).values.double() / 127
    return (torch.round(w.double() / scale).clamp(-127, 127) * scale).float()


def nf4(w):
    table = torch.tensor(NF4)
    middle = (table[1:] + table[:-1]) / 2
    flat = w.flatten()
    out = torch.empty_like(flat)
    for at in range(0, len(flat), 64):
        block = flat[at:at + 64]
        peak = block.abs().max()
        index = torch.bucketize(block * (1 / peak), middle)
        out[at:at + 64] = table[index] * peak
    return out.reshape(w.shape)


def quantize(w, name):
    if name == "fp32":
        return w
    if name == "fp16":
        return w.half().float()
    if name == "bf16":
        return w.bfloat16().float()
    if name == "int8":
        return int8(w)
    if name == "nf4":
        return nf4(w)
    bits, _, group = name[3:].partition("g")
    return rtn(w, int(bits), int(group or 0))


def logits(model, heads, kv_heads, tokens):
    """[length, vocab] for one window; interleaved rotary positions."""
    x = model["embed"][torch.tensor(tokens)]
    length, dim = x.shape
    size = dim // heads
    angle = torch.outer(
        torch.arange(length).double(),
        10000.0 ** (-torch.arange(0, size, 2).double() / size))
    turn = torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
    mask = torch.full((length, length), -math.inf).triu(1)

    def norm(x, w):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * w

    def rotate(y):
        pairs = torch.view_as_complex(
            y.reshape(length, -1, size // 2, 2).contiguous())
        turned = torch.view_as_real(pairs * turn[:, None])
        return turned.reshape(length, -1, size).transpose(0, 1)

    for i in range(model["q"].shape[0]):
        y = norm(x, model["norm1"][i])
        q = rotate(y @ model["q"][i].T)
        k = rotate(y @ model["k"][i].T)
        v = (y @ model["v"][i].T).reshape(length, -1, size).transpose(0, 1)
        k = k.repeat_interleave(heads // kv_heads, 0)
        v = v.repeat_interleave(heads // kv_heads, 0)
        p = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(size) + mask, -1)
        x = x + (p @ v).transpose(0, 1).reshape(length, dim) @ model["o"][i].T
        y = norm(x, model["norm2"][i])
        x = x + (torch.nn.functional.silu(y @ model["gate"][i].T)
                 * (y @ model["up"][i].T)) @ model["down"][i].T
    return norm(x, model["norm"]) @ model["embed"].T


def windows(mode, count):
    """(begin, end, first scored position) over a text of count tokens."""
    if mode == "llamacpp":
        for begin in range(0, count - CONTEXT + 1, CONTEXT):
            yield begin, begin + CONTEXT, begin + CONTEXT // 2 + 1
    elif mode == "blocks":
        for begin in range(0, count, CONTEXT):
            end = min(begin + CONTEXT, count)
            if end - begin > 1:
                yield begin, end, begin + 1
    else:
        scored = 1
        for begin in range(0, count, STRIDE):
            end = min(begin + CONTEXT, count)
            yield begin, end, scored
            scored = end
            if end == count:
                return


def perplexity(model, heads, kv_heads, tokens, mode):
    total = 0.0
    count = 0
    for begin, end, first in windows(mode, len(tokens)):
        window = tokens[begin:end]
        if mode == "llamacpp":
            window = [1] + window[1:]
        scores = torch.log_softmax(
            logits(model, heads, kv_heads, window).double(), -1)
        targets = torch.tensor(tokens[first:end])
        rows = scores[first - begin - 1:end - begin - 1]
        total -= rows[torch.arange(len(targets)), targets].sum().item()
        count += len(targets)
    return math.exp(total / count), count


def ours(qrobust, directory, text, mode):
    figures = os.path.join(directory, mode + ".json")
    stride = ["--stride", str(STRIDE)] if mode == "sliding" else []
    subprocess.run(
        [qrobust, "eval", os.path.join(directory, "model"), "--text", text,
         "--mode", mode, "--context", str(CONTEXT), "--precision",
         ",".join(PRECISIONS), "--json", figures, "--quiet"] + stride,
        check=True)
    with open(figures) as file:
        return json.load(file)


def main():
    qrobust, shared = sys.argv[1:3]
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 8000
    source = os.path.join(shared, "data/models/stories260K")
    corpus = os.path.join(shared, "data/text/tinystories/tinystories_a.txt")
    if not os.path.exists(source) or not os.path.exists(corpus):
        skip("the shared model and text are not there")
    torch.set_grad_enabled(False)
    model, heads, kv_heads, _ = read_model(
        os.path.join(source, "stories260K.bin"))
    with open(corpus, "rb") as file:
        text = file.read(size).decode(errors="ignore")
    tokens = [1] + tokenize_fast(
        read_tokenizer(os.path.join(source, "tok512.bin")), text)
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "text.txt")
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        subprocess.run([qrobust, "convert", source,
                        os.path.join(directory, "model"), "--quiet"],
                       check=True)
        for mode in MODES:
            found = ours(qrobust, directory, path, mode)
            if found["tokens"] != len(tokens):
                print("tokens:", found["tokens"], "expected", len(tokens))
                failed += 1
            for name in PRECISIONS:
                changed = dict(model)
                for role in ("q", "k", "v", "o", "gate", "up", "down"):
                    changed[role] = torch.stack(
                        [quantize(w, name) for w in model[role]])
                expected, count = perplexity(changed, heads, kv_heads, tokens,
                                             mode)
                got = found["precisions"][name]
                error = abs(got["perplexity"] / expected - 1)
                good = error <= 1e-4 and got["scored_tokens"] == count
                failed += not good
                print("%-9s %-8s %11.6f %11.6f  %.1e  %d %s" % (
                    mode, name, got["perplexity"], expected, error, count,
                    "" if good else "FAILED"))
    print("%d of %d cells differ" % (failed, len(MODES) * len(PRECISIONS)))
    return failed != 0


sys.exit(main())
