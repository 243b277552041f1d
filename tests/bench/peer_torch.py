"""PyTorch as a peer of bench_engine and bench_attention (peer.h says how they
talk): a Llama model and its training step with AdamW, its loss, its logits,
and plain causal attention, written as one writes them in PyTorch.

    peer_torch.py [THREADS]
"""
import math
import sys

import torch
import torch.nn.functional as F
from torch import nn

from peer_turn import turn

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
torch.manual_seed(0)


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        inverse = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        return x * inverse * self.weight


def rotate(x, cosine, sine):
    """x [batch, heads, length, head_dim], pairs (i, i + head_dim / 2)."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), -1)


def attention(q, k, v, mask):
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    return F.softmax(scores + mask, -1) @ v


def causal(length):
    return torch.full((length, length), float("-inf")).triu(1)


class Block(nn.Module):
    def __init__(self, dim, heads, kv_heads, hidden):
        super().__init__()
        head = dim // heads
        self.heads, self.kv_heads, self.head = heads, kv_heads, head
        self.norm_1, self.norm_2 = Norm(dim), Norm(dim)
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, kv_heads * head, bias=False)
        self.v = nn.Linear(dim, kv_heads * head, bias=False)
        self.o = nn.Linear(dim, dim, bias=False)
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def split(self, x, heads):
        return x.view(*x.shape[:2], heads, self.head).transpose(1, 2)

    def forward(self, x, cosine, sine, mask):
        y = self.norm_1(x)
        q = rotate(self.split(self.q(y), self.heads), cosine, sine)
        k = rotate(self.split(self.k(y), self.kv_heads), cosine, sine)
        v = self.split(self.v(y), self.kv_heads)
        if self.kv_heads != self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, 1)
            v = v.repeat_interleave(self.heads // self.kv_heads, 1)
        y = attention(q, k, v, mask).transpose(1, 2).reshape(x.shape)
        x = x + self.o(y)
        y = self.norm_2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    def __init__(self, dim, layers, heads, kv_heads, hidden, vocab, length):
        super().__init__()
        half = dim // heads // 2
        self.embedding = nn.Embedding(vocab, dim)
        self.blocks = nn.ModuleList(
            Block(dim, heads, kv_heads, hidden) for _ in range(layers))
        self.norm = Norm(dim)
        frequency = 10000.0 ** (-torch.arange(half).float() / half)
        angle = torch.outer(torch.arange(length).float(), frequency)
        self.cosine, self.sine = angle.cos(), angle.sin()
        self.mask = causal(length)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cosine, self.sine, self.mask)
        return self.norm(x) @ self.embedding.weight.t()


def loss_of(model, tokens, targets):
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def model_job(kind, dim, layers, heads, kv_heads, hidden, vocab, sequences,
              length):
    model = Llama(dim, layers, heads, kv_heads, hidden, vocab, length)
    tokens = torch.randint(0, vocab, (sequences, length))
    targets = torch.randint(0, vocab, (sequences, length))
    # Without clipping, which ours does beside.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def train():
        optimizer.zero_grad()
        loss_of(model, tokens, targets).backward()
        optimizer.step()

    def forward():
        with torch.no_grad():
            loss_of(model, tokens, targets)

    def logits():
        with torch.no_grad():
            model(tokens)

    return {"train": train, "forward": forward, "logits": logits}[kind]


def attention_job(kind, batch, heads, length, head):
    grad = kind == "attention_grad"
    q, k, v = (torch.randn(batch, heads, length, head, requires_grad=grad)
               for _ in range(3))
    dy = torch.randn(batch, heads, length, head)
    mask = causal(length)

    def forward():
        with torch.no_grad():
            attention(q, k, v, mask)

    def both():
        q.grad = k.grad = v.grad = None
        attention(q, k, v, mask).backward(dy)

    return both if grad else forward


def main():
    job = None
    print("PyTorch %s" % torch.__version__, flush=True)
    for line in sys.stdin:
        word, *numbers = line.split()
        if word == "go":
            print("%.9f %.9f" % turn(job, float(numbers[0])), flush=True)
            continue
        job = None  # the old one's memory goes first
        make = attention_job if word.startswith("attention") else model_job
        job = make(word, *map(int, numbers))
        print("ready", flush=True)


main()
