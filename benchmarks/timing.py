"""Timing that holds on a noisy machine: A and B in turn, the median of the ratios of pairs.

On a GPU calls only queue work, so a clock on the host measures how fast they do that. There the
time is taken between two events in the device's own queue: `clock` is tt.cuda, or torch.cuda.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from statistics import median
from time import perf_counter
from typing import Any


def calibrate(f: Callable[[], object], seconds: float, clock: Any = None) -> int:
    """How many calls of f take about `seconds`."""
    f()  # first calls compile plans and kernels, and fill caches
    calls = 1
    while True:
        took = time_calls(f, calls, clock)
        if took > seconds / 4:
            return max(1, round(calls * seconds / took))
        calls *= 4


def time_calls(f: Callable[[], object], calls: int, clock: Any = None) -> float:
    """Seconds that `calls` calls of f take together."""
    if clock is None:
        start = perf_counter()
        for _ in range(calls):
            f()
        return perf_counter() - start
    clock.synchronize()
    first, last = (clock.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(calls):
        f()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) * 1e-3


def single(
    f: Callable[[], object], repeats: int = 15, seconds: float = 0.02, clock: Any = None
) -> float:
    """Median seconds per call."""
    calls = calibrate(f, seconds, clock)
    return median(time_calls(f, calls, clock) / calls for _ in range(repeats))


def paired(
    a: Callable[[], object], b: Callable[[], object], repeats: int = 25, seconds: float = 0.02
) -> tuple[float, float, float]:
    """Median seconds per call of a, of b, and the median of a/b over pairs taken in turn."""
    calls_a, calls_b = calibrate(a, seconds), calibrate(b, seconds)
    times = [(time_calls(a, calls_a) / calls_a, time_calls(b, calls_b) / calls_b)
             for _ in range(repeats)]  # fmt: skip
    return (
        median(x for x, _ in times),
        median(y for _, y in times),
        median(x / y for x, y in times),
    )


def in_turn(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    """A call that makes the next of `calls`: with inputs of their own they find no warm cache."""
    turn = cycle(calls)
    return lambda: next(turn)()


def clock_of(device: str) -> Any:
    """What time_calls wants for tinytensor on this device."""
    import tinytensor as tt

    return None if device.startswith("cpu") else tt.cuda
