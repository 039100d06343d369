"""What a GPU can do at most, measured: memory, matrix products, launches.

    python -m benchmarks.ceilings --device cuda

Memory: a copy, its bytes read and written. Products: of random square matrices, by tinytensor, by
CuPy and by PyTorch where it is installed; the peak of a dtype is the best of them. Launches: one
element at a time, so that nothing but the way to the GPU is timed. Prints a table and, last, one
JSON line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinytensor as tt
from gpt.errors import command

from . import flags
from .shapes import DTYPES, How, captured
from .step import PEAK_ON_CUDA, peak_product
from .timing import clock_of, single

LAUNCHES = 100  # in one graph


def copy(device: str, nbytes: int) -> tuple[Callable[[], object], float]:
    """A copy within the GPU, and the bytes that it reads and writes."""
    a = tt.ones(nbytes // 4, device=device).array
    b = a.copy()
    xp = tt.backend.namespace_of(a)
    return lambda: xp.copyto(b, a), 2.0 * a.nbytes


def by_cupy(dtype: str, n: int) -> Callable[[], object] | None:
    """CuPy's own product, cuBLAS at its defaults; it has no switch for TF32."""
    if dtype == "tf32":
        return None
    xp = tt.backend.cupy()
    rng = np.random.default_rng(1)
    a, b = (xp.asarray(rng.standard_normal((n, n), np.float32)) for _ in range(2))
    if dtype != "float32":
        name = getattr(tt, dtype)
        a, b = (tt.as_tensor(x).to(name).array for x in (a, b))
    return lambda: xp.matmul(a, b)


def by_torch(dtype: str, n: int) -> Callable[[], object] | None:
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    kind = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    a, b = (torch.randn(n, n, device="cuda", dtype=kind) for _ in range(2))
    return lambda: torch.matmul(a, b)


def products(device: str, n: int) -> Iterator[tuple[str, str, float]]:
    """Dtype, library and FLOP/s."""
    flops, clock = 2.0 * n**3, clock_of(device)
    for dtype in DTYPES:
        tt.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        ours, _ = peak_product(How(device, dtype), n)
        table = {"tinytensor": ours, "CuPy": by_cupy(dtype, n), "PyTorch": by_torch(dtype, n)}
        for name, product in table.items():
            if product is not None:
                yield dtype, name, flops / single(product, 7, 0.1, clock)


def launches(device: str) -> Iterator[tuple[str, float]]:
    """Seconds a call."""
    a = tt.ones(1, device=device)
    xp = tt.backend.namespace_of(a.array)
    out, clock = a.array.copy(), clock_of(device)
    raw = lambda: xp.add(a.array, a.array, out=out)  # noqa: E731
    yield "a kernel, by CuPy", single(raw, clock=clock)
    yield "an op, by tinytensor", single(lambda: a + a, clock=clock)

    def many() -> None:
        for _ in range(LAUNCHES):
            raw()

    yield "a kernel in a graph", single(captured(many, tt.cuda), clock=clock) / LAUNCHES


def measure(device: str, n: int, nbytes: int) -> Iterator[dict[str, Any]]:
    """Row by row: what, how much, and the unit."""
    move, moved = copy(device, nbytes)
    yield {"what": "memory, a copy", "value": moved / single(move, 7, clock=clock_of(device)) / 1e9,
           "unit": "GB/s"}  # fmt: skip
    for dtype, library, rate in products(device, n):
        yield {"what": f"product, {dtype}, by {library}", "dtype": dtype, "value": rate / 1e12,
               "unit": "TFLOP/s"}  # fmt: skip
    for what, seconds in launches(device):
        yield {"what": f"launch, {what}", "value": seconds * 1e6, "unit": "us"}


@command
def main() -> None:
    parser = flags.parser("benchmarks.ceilings", __doc__)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N (default: cuda)")
    parser.add_argument("--size", type=int, default=PEAK_ON_CUDA, help="rows of the matrices")
    parser.add_argument("--bytes", type=int, default=2**30, help="of the copy")
    args = parser.parse_args()
    tt.cuda.set_device(args.device)
    rows = []
    for row in measure(args.device, args.size, args.bytes):
        rows.append(row)
        print(f"{row['what']:36} {row['value']:10.2f} {row['unit']}", flush=True)
    print(json.dumps({"benchmark": "ceilings", "device": args.device, "rows": rows}))


if __name__ == "__main__":
    raise SystemExit(main())
