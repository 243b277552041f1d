"""AdamW, clipping and schedules against PyTorch.

usage: python3 oracle_train.py PATH_OF_ORACLE_TRAIN

20 steps of the same gradients from the same weights: torch.optim.AdamW after
torch.nn.utils.clip_grad_norm_, under LinearLR and then CosineAnnealingLR.
Exit status 77 where PyTorch is missing, which Meson counts as skipped.
"""
import subprocess
import sys
import warnings

try:
    import torch
except ImportError:
    print("SKIP: PyTorch is not installed (Debian: python3-torch)")
    sys.exit(77)

STEPS = 20
MATRIX = (7, 5)
VECTOR = 11
ALL = MATRIX[0] * MATRIX[1] + VECTOR
F64, F32 = 1, 2  # enum qrb_dtype
CONSTANT, COSINE = 0, 1  # enum qrb_schedule


def schedule_of(optimizer, kind, warmup, lr_end):
    """Linear to the peak at step warmup - 1, then flat, or a cosine that has
    lr_end of the peak at the last step."""
    peak = optimizer.param_groups[0]["lr"]
    at_peak = max(warmup - 1, 0)
    schedulers = torch.optim.lr_scheduler
    if kind == COSINE:
        after = schedulers.CosineAnnealingLR(
            optimizer, T_max=STEPS - 1 - at_peak, eta_min=lr_end * peak)
    else:
        after = schedulers.ConstantLR(optimizer, factor=1.0, total_iters=0)
    if at_peak == 0:
        return after
    rise = schedulers.LinearLR(optimizer, start_factor=1.0 / warmup,
                               end_factor=1.0, total_iters=at_peak)
    return schedulers.SequentialLR(optimizer, [rise, after], [at_peak])


def reference(start, gradients, dtype, kind, warmup, lr, lr_end, clip, decay):
    """Rows of learning rate, norm, and weights."""
    split = MATRIX[0] * MATRIX[1]
    start = start.to(dtype, copy=True)  # which is worked on in place
    matrix = torch.nn.Parameter(start[:split].reshape(MATRIX))
    vector = torch.nn.Parameter(start[split:])
    optimizer = torch.optim.AdamW(
        [{"params": [matrix], "weight_decay": decay},
         {"params": [vector], "weight_decay": 0.0}], lr=lr)
    schedule = schedule_of(optimizer, kind, warmup, lr_end)
    rows = []
    for gradient in gradients:
        gradient = gradient.to(dtype, copy=True)
        matrix.grad = gradient[:split].reshape(MATRIX)
        vector.grad = gradient[split:]
        norm = torch.nn.utils.clip_grad_norm_(
            [matrix, vector], clip if clip > 0 else float("inf"))
        rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()
        rows.append([rate, norm.item()]
                    + matrix.detach().flatten().tolist()
                    + vector.detach().tolist())
    return torch.tensor(rows, dtype=torch.float64)


def ours(program, start, gradients, dtype, *options):
    given = torch.cat([start, gradients.flatten()]).numpy().tobytes()
    kind, warmup, lr, lr_end, clip, decay = options
    answer = subprocess.run(
        [program, str(F64 if dtype == torch.float64 else F32), str(kind),
         str(STEPS), str(warmup), repr(lr), repr(lr_end), repr(clip),
         repr(decay)], input=given, stdout=subprocess.PIPE, check=True).stdout
    rows = torch.frombuffer(bytearray(answer), dtype=torch.float64)
    return rows.reshape(STEPS, 2 + ALL)


# schedule, warm-up, lr, lr_end, clip, decay.  Norms of gradients are about
# 70 and shrink to 0.07: a limit of 1 clips some steps and leaves others.
CASES = [
    (CONSTANT, 1, 0.01, 0.1, 0.0, 0.0),
    (CONSTANT, 1, 0.01, 0.1, 0.0, 0.1),
    (CONSTANT, 10, 0.02, 0.1, 1.0, 0.01),
    (COSINE, 5, 0.02, 0.1, 1.0, 0.01),
    (COSINE, 1, 0.05, 0.0, 1.0, 0.3),
    (COSINE, 19, 0.05, 0.5, 5.0, 0.0),
]


def main(program):
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.manual_seed(7)
    worst = 0.0
    for case in CASES:
        start = torch.randn(ALL, dtype=torch.float64)
        shrink = torch.logspace(1, -2, STEPS, dtype=torch.float64)
        gradients = (torch.randn(STEPS, ALL, dtype=torch.float64)
                     * shrink[:, None])
        for dtype in (torch.float64, torch.float32):
            expected = reference(start, gradients, dtype, *case)
            found = ours(program, start, gradients, dtype, *case)
            # PyTorch divides by the norm plus 1e-6.  A float32 weight is
            # rounded once in each of our steps and up to three times (decay,
            # update, and what it adds) in each of PyTorch's.
            scale = expected.abs().clamp(min=1e-3)
            scale[:, 2:] = expected[:, 2:].abs().max()
            bound = torch.full_like(expected, 1e-6)
            if dtype == torch.float32:
                bound[:, 2:] += 4 * 2.0 ** -24 * torch.arange(
                    1, STEPS + 1)[:, None]
            error = (found - expected).abs() / scale
            if not bool((error <= bound).all()):
                row = int((error / bound).max(dim=1).values.argmax())
                print(f"{case} {dtype}: step {row} is off by "
                      f"{float(error[row].max()):.3g}")
                return 1
            if dtype == torch.float64:
                worst = max(worst, float(error.max()))
            clipped = int((expected[:, 1] > case[4]).sum())
            if case[4] > 0 and not 0 < clipped < STEPS:
                print(f"{case}: {clipped} of {STEPS} steps are clipped")
                return 1
    print(f"{len(CASES)} runs of {STEPS} steps as PyTorch "
          f"{torch.__version__}; worst relative error {worst:.2g}")
    return 0


sys.exit(main(sys.argv[1]))
