"""Whether a GPU computes what it should: as the CPU does, each time the same, and unwaited for.

    python -m benchmarks.checks --device cuda

Training steps with dropout, clipping and AdamW of a small GPT:

    parity       losses of the CPU and of the GPU in float32, and the first in half precision
    determinism  two runs of each dtype end with the same weights, bit for bit
    graph        so do a captured step, replayed, and the same step taken eagerly
    waiting      no step reads a value of the GPU (CuPy's own guard)

Prints a table and, last, one JSON line; the exit code is 1 if a check fails.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib import import_module
from typing import Any

import tinytensor as tt
from gpt.errors import command
from gpt.model import GPT

from . import flags
from .shapes import WARM_UP, How, Shape, named, training_step

CLOSE = 1e-4  # relative, of float32 losses after some steps: sums in another order
FIRST = {"tf32": 1e-3, "float16": 5e-3, "bfloat16": 1e-2}  # of the first loss: 8 to 11 bits


def run(of: Shape, how: How, steps: int) -> tuple[list[float], str]:
    """The losses of some steps, and a hash of the weights that they end with."""
    tt.manual_seed(0)
    model = GPT(replace(of.config, dropout=0.1)).to(how.device)
    step = training_step(model, of.ids(), how=how)
    losses = [step() for _ in range(steps)]
    weights = b"".join(p.detach().cpu().numpy().tobytes() for p in model.parameters())
    return [x.item() for x in losses if x is not None], hashlib.sha256(weights).hexdigest()


def apart(mine: list[float], theirs: list[float]) -> float:
    """The largest relative difference."""
    return max(abs(a - b) / abs(b) for a, b in zip(mine, theirs, strict=True))


def unread() -> AbstractContextManager:
    """Inside, CuPy raises where the host would wait for the GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may miss some, and says so
        return import_module("cupyx").allow_synchronize(False)


def waits(of: Shape, how: How) -> str:
    """What waits for the GPU in a step, or nothing."""
    tt.manual_seed(0)
    step = training_step(GPT(replace(of.config, dropout=0.1)).to(how.device), of.ids(), how=how)
    for _ in range(2):
        step()
    try:
        with unread():
            step()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def checks(of: Shape, device: str, steps: int) -> Iterator[tuple[str, Callable]]:
    """Name, and a call that gives a value and whether it is as it should be."""
    dtypes = ("float32", *FIRST)
    cpu: list[float] = []

    def parity() -> tuple[Any, bool]:
        cpu[:] = run(of, How(), steps)[0]
        difference = apart(run(of, How(device), steps)[0], cpu)
        return difference, difference < CLOSE

    def first(dtype: str) -> tuple[Any, bool]:
        difference = apart(run(of, How(device, dtype), 1)[0], cpu[:1])
        return difference, difference < FIRST[dtype]

    def determinism(dtype: str) -> tuple[Any, bool]:
        one, other = (run(of, How(device, dtype), steps) for _ in range(2))
        return one[1][:12], one == other

    def graph(dtype: str) -> tuple[Any, bool]:
        eager = run(of, How(device, dtype), WARM_UP + steps)[1]
        return eager[:12], eager == run(of, How(device, dtype, graph=True), steps)[1]

    def waiting(dtype: str) -> tuple[Any, bool]:
        found = waits(of, How(device, dtype))
        return found or "nothing", not found

    yield f"parity: losses of {steps} steps", parity
    for dtype in FIRST:
        yield f"parity: first loss in {dtype}", lambda dtype=dtype: first(dtype)
    for name, check in {"determinism": determinism, "graph": graph, "waiting": waiting}.items():
        for dtype in dtypes:
            yield f"{name}: {dtype}", lambda check=check, dtype=dtype: check(dtype)


@command
def main() -> int:
    parser = flags.parser("benchmarks.checks", __doc__)
    parser.add_argument("shape", nargs="?", default="256/384/6/6/4")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N (default: cuda)")
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    tt.cuda.set_device(args.device)
    rows = []
    for name, check in checks(named(args.shape), args.device, args.steps):
        try:
            value, ok = check()
        except Exception as error:  # of one check; the others are worth knowing
            value, ok = f"{type(error).__name__}: {error}"[:300], False
        rows.append({"check": name, "value": value, "ok": ok})
        shown = f"{value:.2e}" if isinstance(value, float) else value
        print(f"{'ok' if ok else 'FAILS':6} {name:34} {shown}", flush=True)
    print(json.dumps({"benchmark": "checks", "device": args.device, "shape": args.shape,
                      "rows": rows}))  # fmt: skip
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
