"""What a training step takes: forward, backward, clipping, AdamW.

    python -m benchmarks.step                        the five shapes of docs/performance.md
    python -m benchmarks.step tales --threads 1      a preset's shape
    python -m benchmarks.step --device cuda --dtype bfloat16      GPT-2 of 124M, and a small GPT
    python tests/peers/step.py                       the same beside PyTorch, in turn

The peak is that of a matrix product of 2048 x 2048 on the same threads, on a GPU of 8192 x 8192 in
the same dtype, measured in turn with the steps. Prints a table, writes a plot where asked to
(--plot), and prints, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import tinytensor as tt

from .shapes import ON_CPU, ON_CUDA, SHAPES, How, Shape, add_flags, named, our_step
from .timing import clock_of, time_calls

PEAK, PEAK_ON_CUDA = 2048, 8192  # rows, columns and depth of the product that shows the peak


def peak_product(how: How = ON_CPU, size: int = 0) -> tuple[Callable[[], object], float]:
    """A large product on all our threads, or on the GPU, and its floating-point operations."""
    n = size or (PEAK if how.device == "cpu" else PEAK_ON_CUDA)
    tile = np.random.default_rng(0).standard_normal((min(n, 1024),) * 2, np.float32)
    whole = np.tile(tile, (-(-n // len(tile)),) * 2)[:n, :n]  # zeros would be multiplied faster
    a, b = (tt.tensor(whole, device=how.device) for _ in range(2))
    if how.dtype in ("bfloat16", "float16"):
        a, b = (t.to(getattr(tt, how.dtype)) for t in (a, b))

    def product() -> None:
        with tt.no_grad():
            tt.nn.functional.linear(a, b)

    return product, 2.0 * n**3


def measure(name: str, of: Shape, steps: int, how: How = ON_CPU, peak: int = 0) -> dict[str, Any]:
    """One row of the table: medians over so many steps, after three to warm up."""
    step, clock = our_step(of, how), clock_of(how.device)
    product, flops = peak_product(how, peak)
    for f in (step, product):
        time_calls(f, 3, clock)
    pairs = [(time_calls(step, 1, clock), time_calls(product, 1, clock)) for _ in range(steps)]
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
    parser.add_argument("shapes", nargs="*", metavar="SHAPE",
                        help=f"{', '.join(SHAPES | ON_CUDA)}, block/width/heads/layers/batch, or a "
                        "preset (default: the first five, on a GPU the others)")  # fmt: skip
    add_flags(parser)
    parser.add_argument("--peak-size", type=int, default=0, help="rows of the product for the peak")
    parser.add_argument("--steps", type=int, default=10, help="counted steps (default: 10)")
    parser.add_argument("--threads", type=int, default=tt.get_num_threads())
    parser.add_argument("--plot", metavar="FILE.png")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    tt.set_num_threads(args.threads)
    rows, how = [], How.asked(args)
    names = args.shapes or list(SHAPES if how.device == "cpu" else ON_CUDA)
    print(f"{'shape':18} {'ms':>8} {'tokens/s':>10} {'GFLOP/s':>8} {'peak':>6} {'share':>6}")
    for name in names:
        row = measure(name, named(name), args.steps, how, args.peak_size)
        rows.append(row)
        print("{:18} {:8.2f} {:10.0f} {:8.1f} {:6.0f} {:6.2f}".format(*row.values()), flush=True)
    if args.plot:
        plot(rows, args.plot)
    print(json.dumps({"benchmark": "step", "threads": args.threads, "numpy": np.__version__,
                      **how._asdict(), "rows": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
