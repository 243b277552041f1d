"""Quantizers against numpy, written from the formulas alone.

usage: python3 oracle_quant.py PATH_OF_ORACLE_QUANT

Codes must be equal, and so must be values in float32.  Exit status 77 where
numpy is missing, which Meson counts as skipped.
"""
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    print("SKIP: numpy is not installed (Debian: python3-numpy)")
    sys.exit(77)

NF4 = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
     -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
     0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
     0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
     0.7229568362236023, 1.0], dtype=np.float32)


def rtn(w, bits, group):
    """Asymmetric, the range widened to hold zero; all in double."""
    rows, cols = w.shape
    group = group or cols
    x = w.astype(np.float64).reshape(rows, cols // group, group)
    lo = np.minimum(x.min(axis=2, keepdims=True), 0)
    hi = np.maximum(x.max(axis=2, keepdims=True), 0)
    empty = (lo == 0) & (hi == 0)
    lo = np.where(empty, -1, lo)
    hi = np.where(empty, 1, hi)
    levels = 2 ** bits - 1
    h = (hi - lo) / levels
    z = np.rint(-lo / h)
    q = np.clip(np.rint(x / h) + z, 0, levels)
    return q.reshape(w.shape), h.ravel(), (h * (q - z)).reshape(w.shape), z


def int8(w):
    x = w.astype(np.float64)
    s = np.abs(x).max(axis=1, keepdims=True)
    q = np.rint(np.divide(127 * x, s, out=np.zeros_like(x), where=s > 0))
    return q, (s / 127).ravel(), q * (s / 127), None


def nf4(w):
    """Blocks of 64 of the flat matrix; nearest value by distance in double of
    the float32 quotient, the lower one at a tie."""
    flat = w.ravel()
    q = np.empty(flat.size, dtype=np.int32)
    values = np.empty(flat.size, dtype=np.float32)
    scales = []
    for first in range(0, flat.size, 64):
        block = flat[first:first + 64]
        absmax = np.abs(block).max()
        scales.append(absmax)
        x = block * (np.float32(1) / absmax) if absmax > 0 else block * 0
        distance = np.abs(x.astype(np.float64)[:, None]
                          - NF4.astype(np.float64)[None, :])
        index = distance.argmin(axis=1)  # the first of equal ones
        q[first:first + 64] = index
        values[first:first + 64] = NF4[index] * absmax
    return (q.reshape(w.shape), np.array(scales, dtype=np.float64),
            values.reshape(w.shape), None)


CASES = {
    "rtn2": lambda w: rtn(w, 2, 0),
    "rtn3": lambda w: rtn(w, 3, 0),
    "rtn4": lambda w: rtn(w, 4, 0),
    "rtn8": lambda w: rtn(w, 8, 0),
    "rtn4g32": lambda w: rtn(w, 4, 32),
    "rtn3g16": lambda w: rtn(w, 3, 16),
    "int8": int8,
    "nf4": nf4,
}


def matrices():
    random = np.random.default_rng(1)
    normal = random.standard_normal((61, 96)).astype(np.float32)
    yield "normal", normal
    wide = normal * np.exp(4 * random.standard_normal((61, 96)))
    yield "wide range", wide.astype(np.float32)
    yield "eighths, full of ties", (np.rint(8 * normal) / 8).astype(np.float32)
    degenerate = normal.copy()
    degenerate[0] = 0
    degenerate[1] = np.float32(0.3)
    degenerate[2] = np.float32(-0.3)
    degenerate[3] = np.abs(degenerate[3])
    degenerate[4] = -np.abs(degenerate[4])
    degenerate[5, :32] = 0
    yield "degenerate rows", degenerate


def main():
    failed = 0
    for what, w in matrices():
        for name, reference in CASES.items():
            run = subprocess.run(
                [sys.argv[1], name, str(w.shape[0]), str(w.shape[1])],
                input=w.tobytes(), stdout=subprocess.PIPE, check=True)
            q, h, values, z = reference(w)
            found = np.frombuffer(run.stdout, np.int32, w.size)
            at = found.nbytes
            scales = np.frombuffer(run.stdout, np.float64, h.size, at)
            at += scales.nbytes
            fake = np.frombuffer(run.stdout, np.float32, w.size, at)
            at += fake.nbytes
            wrong = {
                "codes": np.count_nonzero(found != q.ravel()),
                "scales": np.count_nonzero(scales != h),
                "values": np.count_nonzero(
                    fake != values.astype(np.float32).ravel()),
            }
            if z is not None:
                zeros = np.frombuffer(run.stdout, np.float64, h.size, at)
                at += zeros.nbytes
                wrong["zero points"] = np.count_nonzero(zeros != z.ravel())
            if at != len(run.stdout):
                wrong["length"] = len(run.stdout) - at
            for kind, count in wrong.items():
                if count:
                    print(f"{name}, {what}: {count} {kind} differ")
                    failed += 1
    print(f"oracle_quant: {failed} failures")
    return 1 if failed else 0


sys.exit(main())
