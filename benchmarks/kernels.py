"""Each op that has kernels, with them and without: what they save, forward and backward.

    python -m benchmarks.kernels                    all of them, in the sizes of a GPT of 10M
    python -m benchmarks.kernels gelu attention     these

Ops are those of the registry that have a kernel; an op without a case here is named at the end.
Kernel and reference run in turn on the same data. Where there is a GPU, its kernels are timed as
well, each time until the device is done. Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np

import tinytensor as tt
from tinytensor.ops import activations, cross_entropy, elementwise, fused, index, linalg, nn
from tinytensor.random import Key

from .timing import calibrate, time_calls

B, T, C, H, V = 8, 256, 384, 6, 8192  # batch, time, width, heads, classes
REPEATS = 7
PAUSE = 0.1  # seconds: BLAS's own threads, which references use, keep a core busy behind a product


def cases() -> dict[str, tuple[Any, list, dict]]:
    """By op: its function, the shapes of its arguments, and its keyword arguments."""
    rng = np.random.default_rng(0)
    target = {"target": rng.integers(0, V, B * T), "ignore_index": -1, "divisor": B * T}
    rows = {"index": rng.integers(0, V, B * T), "count": V}
    causal = {"is_causal": True, "scale": 0.125}
    x, wide, vector = (B, T, C), (B, T, 4 * C), (C,)
    return {
        "linear": (nn._linear, [x, (4 * C, C), (4 * C,)], {}),
        "gelu_mlp": (
            fused._gelu_mlp, [x, (4 * C, C), (C, 4 * C), (4 * C,), vector], {}
        ),
        "matmul": (linalg._matmul, [x, (C, 4 * C)], {}),
        "layer_norm": (nn._layer_norm, [x, vector, vector], {}),
        "add_layer_norm": (fused._add_layer_norm, [x, x, vector, vector], {}),
        "add_rms_norm": (fused._add_rms_norm, [x, x, vector], {}),
        "rms_norm": (nn._rms_norm, [x, vector], {}),
        "relu": (activations.relu, [wide], {}),
        "silu": (activations.silu, [wide], {}),
        "gelu": (activations.gelu, [wide], {"approximate": "tanh"}),
        "softmax": (nn._softmax, [(B, H, T, T)], {"dim": 3}),
        "log_softmax": (nn._log_softmax, [(B * T, V)], {"dim": 1}),
        "cross_entropy": (
            cross_entropy._cross_entropy, [(B * T, V)],
            {"target": target["target"], "ignore_index": -1},
        ),
        "dropout": (nn._dropout, [x], {"p": 0.1, "key": Key(seed=0, block=0)}),
        "add": (elementwise.add, [x, x], {}),
        "attention": (nn._attention, [(B, H, T, C // H)] * 3, causal),
        "packed_attention": (fused._packed_attention, [(B, T, 3 * C)], {"n_head": H, **causal}),
        "add_rows": (index._add_rows, [(B * T, C)], rows),
        "linear_cross_entropy": (
            fused._linear_cross_entropy, [(B * T, C), (V, C), None], {**target, "ahead": True}
        ),
    }  # fmt: skip


def with_kernels(module: str) -> list[str]:
    """The ops of the registry that have a kernel for arrays of `module`."""
    return [
        name
        for name, op in tt.REGISTRY.items()
        if op.implementations[module] is not op.forward
        or any(module in rule.kernels for rule in op.rules.values())
    ]


@contextmanager
def without_kernels(op: Any, module: str) -> Iterator[None]:
    """Inside, the op's reference runs, and its rules as they are written."""
    forward = op.implementations[module]
    rules = {id(r): r for r in op.rules.values()}.values()
    kernels = [(rule, rule.kernels.pop(module, None)) for rule in rules]
    op.implementations[module] = op.forward
    op.plans.clear()
    try:
        yield
    finally:
        op.implementations[module] = forward
        for rule, own in kernels:
            if own is not None:
                rule.kernels[module] = own
        op.plans.clear()


def call(case: tuple, device: str) -> Callable[[], object]:
    """Forward and backward of one op, and the wait until the device has done them."""
    function, shapes, static = case
    tt.manual_seed(0)
    arguments = [
        None if s is None else (0.1 * tt.randn(s, device=device)).detach().requires_grad_()
        for s in shapes
    ]
    static = {
        k: tt.tensor(v, device=device).array if isinstance(v, np.ndarray) else v
        for k, v in static.items()
    }
    upstream: list = []

    def run() -> None:
        out = function(*arguments, **static)
        outs = out if isinstance(out, tuple) else (out,)
        upstream[:] = upstream or [tt.ones_like(o) for o in outs]
        tt.autograd.grad(outs, [a for a in arguments if a is not None], upstream)
        if device != "cpu":
            tt.cuda.synchronize()

    return run


def measure(name: str, case: tuple, device: str) -> dict[str, float]:
    """Milliseconds with kernels and without, in turn, and the median of the ratios."""
    op, module = tt.REGISTRY[name], "numpy" if device == "cpu" else "cupy"
    run = call(case, device)
    calls = calibrate(run, 0.02)
    with without_kernels(op, module):
        run()
    pairs = []
    for _ in range(REPEATS):
        ours = time_calls(run, calls) / calls
        with without_kernels(op, module):
            run()  # makes the plan
            pairs.append((ours, time_calls(run, calls) / calls))
        time.sleep(PAUSE)
        run()
    return {
        "kernel_ms": median(a for a, _ in pairs) * 1e3,
        "reference_ms": median(b for _, b in pairs) * 1e3,
        "speedup": median(b / a for a, b in pairs),
    }


def plot(rows: list[dict], path: str) -> None:
    """How many times as fast as its reference each kernel is, as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.35 * len(rows) + 1), layout="constrained")
    rows = rows[::-1]
    labels = [f"{row['op']} ({row['device']})" for row in rows]
    bars = axes.barh(labels, [row["speedup"] for row in rows])
    axes.bar_label(bars, [f"{row['kernel_ms']:.2f} ms" for row in rows], padding=4)
    axes.set(
        xlabel="times as fast as the reference", xlim=(0, 1.2 * max(row["speedup"] for row in rows))
    )
    axes.axvline(1, color="black", linewidth=0.8)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("ops", nargs="*", metavar="OP")
    parser.add_argument("--threads", type=int, default=tt.get_num_threads())
    parser.add_argument("--plot", metavar="FILE.png")
    args = parser.parse_args()
    tt.set_num_threads(args.threads)
    table, rows, left_out = cases(), [], []
    unknown = [name for name in args.ops if name not in table]
    if unknown:
        parser.error(f"no case for {', '.join(unknown)}: there is {', '.join(table)}")
    print(f"{'op':22} {'device':7} {'kernel ms':>10} {'reference ms':>13} {'speedup':>8}")
    devices = {"cpu": "numpy"} | ({"cuda": "cupy"} if tt.cuda.is_available() else {})
    for device, module in devices.items():
        for name in with_kernels(module):
            if name not in table:
                left_out.append(name)
            elif not args.ops or name in args.ops:
                row = {"op": name, "device": device, **measure(name, table[name], device)}
                rows.append(row)
                print("{:22} {:7} {:10.2f} {:13.2f} {:8.2f}".format(*row.values()), flush=True)
    if left_out:
        print(f"no case here for {', '.join(sorted({*left_out}))}")
    if args.plot:
        plot(rows, args.plot)
    print(json.dumps({"benchmark": "kernels", "threads": args.threads, "rows": rows}))


if __name__ == "__main__":
    main()
