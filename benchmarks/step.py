"""What a training step takes: forward, backward, clipping, AdamW.

    python -m benchmarks.step                        the five shapes of docs/performance.md
    python -m benchmarks.step tales --threads 1      a preset's shape
    python tests/peers/step.py                       the same beside PyTorch, in turn

The peak is that of a matrix product of 2048 x 2048 on the same threads, measured in turn with the
steps. Prints a table, writes a plot where asked to (--plot), and prints, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import tinytensor as tt

from .shapes import SHAPES, Shape, named, our_step
from .timing import time_calls

PEAK = 2048  # rows, columns and depth of the product that shows the peak


def peak_product() -> tuple[Callable[[], object], float]:
    """A large product on all our threads, and its floating-point operations."""
    a, b = (tt.ones(PEAK, PEAK) for _ in range(2))

    def product() -> None:
        with tt.no_grad():
            tt.nn.functional.linear(a, b)

    return product, 2.0 * PEAK**3


def measure(name: str, of: Shape, steps: int) -> dict[str, Any]:
    """One row of the table: medians over so many steps, after three to warm up."""
    step = our_step(of)
    product, flops = peak_product()
    time_calls(step, 3)
    pairs = [(time_calls(step, 1), time_calls(product, 1)) for _ in range(steps)]
    seconds = median(s for s, _ in pairs)
    return {
        "shape": name,
        "ms": seconds * 1e3,
        "tokens_per_s": of.tokens / seconds,
        "gflop_per_s": of.flops / seconds / 1e9,
        "peak_gflop_per_s": median(flops / p for _, p in pairs) / 1e9,
        "share_of_peak": median((of.flops / s) / (flops / p) for s, p in pairs),
    }


def plot(rows: list[dict], path: str) -> None:
    """Each shape's share of the peak, as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.5 * len(rows) + 1.2), layout="constrained")
    names = [row["shape"] for row in rows][::-1]
    bars = axes.barh(names, [100 * row["share_of_peak"] for row in rows][::-1])
    axes.bar_label(bars, [f"{row['gflop_per_s']:.0f} GFLOP/s" for row in rows][::-1], padding=4)
    axes.set(xlim=(0, 110), xlabel="% of the peak of a matrix product")
    figure.savefig(path, dpi=120)


def arguments() -> Any:
    parser = argparse.ArgumentParser("python -m benchmarks.step", description=__doc__)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), metavar="SHAPE",
                        help=f"{', '.join(SHAPES)}, or a preset (default: those five)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=10, help="counted steps (default: 10)")
    parser.add_argument("--threads", type=int, default=tt.get_num_threads())
    parser.add_argument("--plot", metavar="FILE.png")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    tt.set_num_threads(args.threads)
    rows = []
    print(f"{'shape':18} {'ms':>8} {'tokens/s':>10} {'GFLOP/s':>8} {'peak':>6} {'share':>6}")
    for name in args.shapes:
        row = measure(name, named(name), args.steps)
        rows.append(row)
        print("{:18} {:8.1f} {:10.0f} {:8.1f} {:6.0f} {:6.2f}".format(*row.values()), flush=True)
    if args.plot:
        plot(rows, args.plot)
    print(json.dumps({"benchmark": "step", "threads": args.threads, "numpy": np.__version__,
                      "rows": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
