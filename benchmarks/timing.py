"""Timing that holds on a noisy machine: A and B in turn, the median of the ratios of pairs."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter


def calibrate(f: Callable[[], object], seconds: float) -> int:
    """How many calls of f take about `seconds`."""
    f()  # first calls compile plans and fill caches
    calls = 1
    while True:
        took = time_calls(f, calls)
        if took > seconds / 4:
            return max(1, round(calls * seconds / took))
        calls *= 4


def time_calls(f: Callable[[], object], calls: int) -> float:
    """Seconds that `calls` calls of f take together."""
    start = perf_counter()
    for _ in range(calls):
        f()
    return perf_counter() - start


def single(f: Callable[[], object], repeats: int = 15, seconds: float = 0.02) -> float:
    """Median seconds per call."""
    calls = calibrate(f, seconds)
    return median(time_calls(f, calls) / calls for _ in range(repeats))


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
