"""A turn of a peer, as take_turn() of rounds.c does it for ours: one run that is
not counted, then runs until the seconds have gone; the best and the median."""
import time


def turn(job, seconds):
    took = []
    job()
    begin = time.perf_counter()
    while not took or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        job()
        took.append(time.perf_counter() - start)
    took.sort()
    n = len(took)
    return took[0], 0.5 * (took[(n - 1) // 2] + took[n // 2])
