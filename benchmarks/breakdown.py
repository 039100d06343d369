"""Where the time of a training step goes, op by op, against the machine's two ceilings.

    python -m benchmarks.breakdown                          256/384/6/6/16
    python -m benchmarks.breakdown gpt2-124M --plot FILE.png

Each op's forward and its rules are timed as they run inside of a step. Two floors stand beside: the
time of its matrix products at the speed of one of 2048 x 2048, and the time to move what it reads
and writes once at the speed of a large copy. Both are measured in the same run, on the same
threads. `rest` is the walk over the tape, the modules' Python, and sums of gradients.

Prints a table, draws it where asked to (--plot), and prints, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import tinytensor as tt
from gpt.model import GPT
from tinytensor.kernels.cpu.blocks import row_blocks
from tinytensor.kernels.threads import parallel

from .shapes import Shape, named, training_step
from .step import peak_product
from .timing import time_calls


class Clock:
    """Seconds, floating-point operations and bytes by name, of functions wrapped in `timed`."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.flops: defaultdict[str, float] = defaultdict(float)
        self.bytes: defaultdict[str, float] = defaultdict(float)
        self.inside = False  # an op that runs another inside is timed as one

    def timed(self, name: str, function: Callable, flops: Callable | None = None) -> Callable:
        def run(*args: Any, **options: Any) -> Any:
            if self.inside:
                return function(*args, **options)
            self.inside = True
            start = perf_counter()
            out = function(*args, **options)
            self.seconds[name] += perf_counter() - start
            self.inside = False
            arrays = [a for a in _arrays((args, options, out))]
            self.bytes[name] += sum({id(a): a.nbytes for a in arrays}.values())
            self.flops[name] += flops(arrays) if flops else 0
            return out

        return run


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from _arrays(v)
    elif isinstance(value, dict):
        yield from _arrays([*value.values()])


def _flops(of: Shape) -> dict[str, Callable]:
    """By the name of a timed function, the operations of one call, from its arrays."""
    c = of.config
    attention = 2 * of.tokens * c.block_size * c.n_embd  # forward: two products, half of them seen
    mlp = 2 * of.tokens * 8 * c.n_embd**2  # forward: C to 4C and back

    def linear(arrays: list) -> float:  # forward: x, weight first; backward: g, x, weight
        weight = next(a for a in arrays if a.ndim == 2)
        return 2 * of.tokens * weight.size

    return {
        "linear forward": linear,
        "linear backward": lambda arrays: 2 * linear(arrays),
        "gelu_mlp forward": lambda arrays: mlp,
        "gelu_mlp backward": lambda arrays: 2 * mlp,
        "layer_norm_linear forward": linear,
        "layer_norm_linear backward": lambda arrays: 2 * linear(arrays),
        "layer_norm_mlp forward": lambda arrays: mlp,
        "layer_norm_mlp backward": lambda arrays: 2 * mlp,
        "packed_attention forward": lambda arrays: attention,
        "packed_attention backward": lambda arrays: 2 * attention,
        "linear_cross_entropy forward": lambda a: 6 * of.tokens * c.vocab_size * c.n_embd,
    }


def install(clock: Clock, of: Shape) -> None:
    """Time every op of the registry from now on, in this process."""
    flops = _flops(of)

    def timed(name: str, function: Callable) -> Callable:
        return clock.timed(name, function, flops.get(name))

    for name, op in tt.REGISTRY.items():
        op.implementations["numpy"] = timed(f"{name} forward", op.implementations["numpy"])
        rules = {id(r): r for r in op.rules.values()}
        rules |= {id(k): k for r in [*rules.values()] for k in r.kernels.get("numpy", ())}
        for rule in rules.values():
            rule.function = timed(f"{name} backward", rule.function)
        op.plans.clear()


def copy_speed() -> float:
    """Bytes a second that a copy of 256 MB reads and writes, on all threads."""
    a = np.ones(2**26, np.float32)
    b = np.empty_like(a)
    blocks = row_blocks(a.size, a.itemsize)

    def copy() -> None:
        parallel(lambda s: np.copyto(b[s], a[s]), blocks)

    return 2 * a.nbytes / median(time_calls(copy, 1) for _ in range(7))


def measure(of: Shape, steps: int) -> dict[str, Any]:
    """Milliseconds per step of each timed part, and its two floors."""
    tt.manual_seed(0)
    clock = Clock()
    optimizer, utils = tt.optim.AdamW, tt.nn.utils
    whole, norm = optimizer.step, utils.get_total_norm
    optimizer.step = clock.timed("AdamW", whole)  # type: ignore[method-assign]
    utils.get_total_norm = clock.timed("get_total_norm", norm)
    install(clock, of)
    model = GPT(of.config)
    step = training_step(model, of.ids())
    product, product_flops = peak_product()
    time_calls(step, 3)
    for counts in (clock.seconds, clock.flops, clock.bytes):
        counts.clear()
    total, peaks = 0.0, []
    for _ in range(steps):
        total += time_calls(step, 1)
        clock.inside = True  # not a part of the step
        peaks.append(time_calls(product, 1))
        clock.inside = False
    peak, bandwidth = product_flops / median(peaks), copy_speed()
    numbers = 4.0 * sum(p.numel() for p in model.parameters())
    clock.bytes |= {"AdamW": 7 * numbers * steps, "get_total_norm": numbers * steps}
    clock.seconds["rest"] = total - sum(clock.seconds.values())
    parts = [
        {
            "part": name,
            "ms": seconds / steps * 1e3,
            "share": seconds / total,
            "products_ms": clock.flops[name] / peak / steps * 1e3,
            "memory_ms": clock.bytes[name] / bandwidth / steps * 1e3,
        }
        for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1])
    ]
    return {"ms": total / steps * 1e3, "peak_gflop_per_s": peak / 1e9,
            "copy_gb_per_s": bandwidth / 1e9, "parts": parts}  # fmt: skip


def plot(result: dict[str, Any], path: str) -> None:
    """A bar for each part, and marks where its two floors are."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    parts = [p for p in result["parts"] if p["share"] > 0.001][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(parts) + 1.2), layout="constrained")
    heights = range(len(parts))
    bars = axes.barh(heights, [p["ms"] for p in parts], color="lightsteelblue")
    axes.bar_label(bars, [f"{100 * p['share']:.1f}%" for p in parts], padding=4)
    for key, mark, label in (
        ("products_ms", "|", f"products at {result['peak_gflop_per_s']:.0f} GFLOP/s"),
        ("memory_ms", "x", f"memory at {result['copy_gb_per_s']:.0f} GB/s"),
    ):
        shown = [(p[key], h) for h, p in zip(heights, parts) if p[key] > 0]
        axes.plot(*zip(*shown), mark, color="black", markersize=9 if mark == "|" else 5,
                  label=label)  # fmt: skip
    axes.set_yticks(heights, [p["part"] for p in parts])
    axes.set(xlabel=f"ms of {result['ms']:.0f} ms a step ({result['shape']})")
    axes.set_xlim(0, 1.12 * max(p["ms"] for p in parts))
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.breakdown", description=__doc__)
    parser.add_argument("shape", nargs="?", default="256/384/6/6/16")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=tt.get_num_threads())
    parser.add_argument("--plot", metavar="FILE.png")
    args = parser.parse_args()
    tt.set_num_threads(args.threads)
    result = {"shape": args.shape, **measure(named(args.shape), args.steps)}
    print(f"{'part':32} {'ms':>8} {'share':>6} {'products':>9} {'memory':>8}")
    for p in result["parts"]:
        print("{:32} {:8.2f} {:6.3f} {:9.2f} {:8.2f}".format(*p.values()))
    if args.plot:
        plot(result, args.plot)
    print(json.dumps({"benchmark": "breakdown", "threads": args.threads, **result}))


if __name__ == "__main__":
    main()
