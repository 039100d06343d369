"""The comparison of CPU and GPU that a course makes, and the right one beside it.

freeCodeCamp's "Create a Large Language Model from Scratch" times two random 10000 x 10000 matrices
by time.time() around `a @ b` on the GPU and around np.multiply(a, b) on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

import tinytensor as tt

from .timing import clock_of, single

WHY = """\
The course's lines mislead twice. A call on the GPU returns as soon as its work is queued: without
waiting for the result, a clock on the host measures how long asking takes, some microseconds for
any size of matrices, while the product goes on. And the operations differ: `@` multiplies and adds
2 n^3 numbers, np.multiply multiplies n^2: 20,000 times less work for n = 10,000. One mistake
favours the GPU and the other the CPU, so the ratio of the two says nothing about either. The right
way: the same operation on both, after a warm-up (the first call compiles and loads), timed until
the device is done, several times, of which the median."""


def compare(device: str, n: int) -> dict[str, Any]:
    """Both, as tables; what needs a GPU is left out where there is none."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((n, n), np.float32) for _ in range(2))
    rows: list[dict[str, Any]] = []
    print("\n{:46} {:>9} {:>10}".format(f"two {n} x {n} matrices", "CPU ms", "GPU ms"))
    mistaken: dict[str, Any] = {"cpu_ms": 1e3 * once(lambda: np.multiply(a, b))}
    on_gpu: list = []
    if device != "cpu":
        on_gpu = [tt.tensor(x, device=device) for x in (a, b)]
        on_gpu[0] @ on_gpu[1]  # warm, or loading cuBLAS would be timed instead
        tt.cuda.synchronize(device)
        mistaken["gpu_ms"] = 1e3 * once(lambda: on_gpu[0] @ on_gpu[1])  # queued, not computed
        tt.cuda.synchronize(device)
    show("the course's: np.multiply, and @ not waited for", mistaken)
    on_cpu = [tt.tensor(x) for x in (a, b)]
    operations: dict[str, Callable] = {"a @ b": tt.matmul, "a * b": tt.mul}
    for name, operation in operations.items():
        row = {"operation": name, "cpu_ms": 1e3 * measured(operation, on_cpu, "cpu")}
        if on_gpu:
            row["gpu_ms"] = 1e3 * measured(operation, on_gpu, device)
        rows.append(row)
        show(f"the same on both, waited for: {name}", row)
    print(f"\n{WHY}")
    return {"n": n, "mistaken": mistaken, "right": rows}


def once(f: Callable[[], object]) -> float:
    start = perf_counter()
    f()
    return perf_counter() - start


def measured(operation: Callable, matrices: list, device: str) -> float:
    with tt.no_grad():
        return single(lambda: operation(*matrices), 3, 0.01, clock_of(device))


def show(what: str, row: dict[str, Any]) -> None:
    gpu = f"{row['gpu_ms']:10.3f}" if "gpu_ms" in row else f"{'no GPU':>10}"
    print(f"{what:48}{row['cpu_ms']:7.2f} {gpu}", flush=True)
