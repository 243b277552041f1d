"""PyTorch as a peer of bench_quantizers (peer.h says how they talk): second
moments of inputs and GPTQ, as one writes them from the papers' algorithms in
float32 PyTorch, a column at a time within blocks of 128.

    peer_quantizers.py THREADS DIRECTORY

DIRECTORY holds w_COLS and x_COLS, raw float32 of [COLS, COLS] and
[tokens, COLS].  Beside `go`, `error` is answered with tr(D H D^T) of the last
result over tr(W H W^T).
"""
import os
import sys

import torch

from peer_turn import turn

torch.set_num_threads(int(sys.argv[1]))
DIRECTORY = sys.argv[2]


def matrix(name, cols):
    path = os.path.join(DIRECTORY, "%s_%d" % (name, cols))
    count = os.path.getsize(path) // 4
    return torch.from_file(path, size=count, dtype=torch.float32).view(-1, cols)


def moments(x, sequence=2048):
    """2 / n times the sum of x^T x over n sequences, one after the other."""
    h = torch.zeros(x.shape[1], x.shape[1])
    for n, part in enumerate(x.split(sequence)):
        h *= n / (n + 1)
        part = (2 / (n + 1)) ** 0.5 * part
        h += part.t() @ part
    return h


def fit(w, bits):
    low = torch.clamp(w.min(1)[0], max=0)
    high = torch.clamp(w.max(1)[0], min=0)
    empty = (low == 0) & (high == 0)
    low[empty], high[empty] = -1, 1
    scale = (high - low) / (2 ** bits - 1)
    return scale[:, None], torch.round(-low / scale)[:, None]


def fake(w, scale, zero, bits):
    q = torch.clamp(torch.round(w / scale) + zero, 0, 2 ** bits - 1)
    return scale * (q - zero)


def gptq(w, h, bits, group, ordered, block=128, damping=0.01):
    """Ordered with static groups; else groups of the columns as they come."""
    w, h = w.clone(), h.clone()
    cols = w.shape[1]
    if group == 0:
        scale, zero = fit(w, bits)
    dead = torch.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    if ordered:
        static = [fit(w[:, i:i + group], bits) for i in range(0, cols, group)]
        order = torch.argsort(torch.diag(h), descending=True)
        w, h = w[:, order], h[order][:, order]
    h.diagonal().add_(damping * torch.mean(torch.diag(h)))
    u = torch.linalg.cholesky(
        torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    result = torch.zeros_like(w)
    for begin in range(0, cols, block):
        end = min(begin + block, cols)
        inside = w[:, begin:end].clone()
        errors = torch.zeros_like(inside)
        u_inside = u[begin:end, begin:end]
        for i in range(end - begin):
            if ordered:
                scale, zero = static[order[begin + i] // group]
            elif group and (begin + i) % group == 0:
                scale, zero = fit(w[:, begin + i:begin + i + group], bits)
            column = inside[:, i:i + 1]
            value = fake(column, scale, zero, bits)
            result[:, begin + i:begin + i + 1] = value
            error = (column - value) / u_inside[i, i]
            inside[:, i:] -= error @ u_inside[i:i + 1, i:]
            errors[:, i:i + 1] = error
        w[:, end:] -= errors @ u[begin:end, end:]
    if ordered:
        result = result[:, torch.argsort(order)]
    return result


class Hessian:
    def __init__(self, cols):
        self.x = matrix("x", cols)

    def __call__(self):
        moments(self.x)

    def error(self):
        return 0


class Gptq:
    def __init__(self, cols, bits, group, ordered):
        self.w = matrix("w", cols)
        self.h = moments(matrix("x", cols))
        self.options = bits, group, bool(ordered)
        self.result = None

    def __call__(self):
        self.result = gptq(self.w, self.h, *self.options)

    def error(self):
        h, w = self.h.double(), self.w.double()
        d = w - self.result.double()
        return float(((d @ h) * d).sum() / ((w @ h) * w).sum())


JOBS = {"hessian": Hessian, "gptq": Gptq}


def main():
    job = None
    print("PyTorch %s" % torch.__version__, flush=True)
    for line in sys.stdin:
        word, *numbers = line.split()
        if word == "go":
            print("%.9f %.9f" % turn(job, float(numbers[0])), flush=True)
        elif word == "error":
            print("%.9g" % job.error(), flush=True)
        elif word in JOBS:
            job = None  # the old one's memory goes first
            job = JOBS[word](*map(int, numbers))
            print("ready", flush=True)
        else:
            print("none", flush=True)


main()
