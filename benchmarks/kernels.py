"""Each op that has kernels, with them and without, and on the CPU and on a GPU.

    python -m benchmarks.kernels                    all of them, in the sizes of a GPT of 10M
    python -m benchmarks.kernels gelu attention     these
    python -m benchmarks.kernels --device cuda --dtype bfloat16 --plot sizes.png

Three comparisons, forward and backward each (--compare takes some of them):

    reference   kernels beside the op's definition, in turn on the same data, on the device
    sizes       the CPU beside the GPU, from one row on: the size where the GPU starts to win
    course      the comparison that a course makes of the two, beside the right one

Ops are those of the registry that have a kernel; an op without a case here is named at the end. A
GPU is timed by events in its own queue, warm, with inputs that are not in its cache: see timing.py.
Without a GPU the CPU's part is measured. Prints tables and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import tinytensor as tt
from gpt.errors import command

from . import course, flags, sizes
from .cases import SIZES, Case, cases, cold
from .timing import calibrate, clock_of, time_calls

REPEATS = 7
COMPARISONS = ("reference", "sizes", "course")
PAUSE = 0.1  # seconds: BLAS's own threads, which references use, keep a core busy behind a product


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


def measure(name: str, case: Case, device: str, dtype: str = "float32") -> dict[str, float]:
    """Milliseconds with kernels and without, in turn, and the median of the ratios."""
    op, module = tt.REGISTRY[name], "numpy" if device == "cpu" else "cupy"
    run, clock = cold(case, device, dtype), clock_of(device)
    calls = calibrate(run, 0.02, clock)
    with without_kernels(op, module):
        run()
    pairs = []
    for _ in range(REPEATS):
        ours = time_calls(run, calls, clock) / calls
        with without_kernels(op, module):
            run()  # makes the plan
            pairs.append((ours, time_calls(run, calls, clock) / calls))
        if module == "numpy":
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


def against_reference(names: list[str], device: str, dtype: str) -> list[dict]:
    """A row for each op; one that its reference cannot do in this dtype is said."""
    rows, left_out = [], []
    table, module = cases(SIZES[device[:4]]), "numpy" if device == "cpu" else "cupy"
    print(f"{'op':22} {'device':7} {'kernel ms':>10} {'reference ms':>13} {'speedup':>8}")
    for name in with_kernels(module):
        if name not in table:
            left_out.append(name)
        elif not names or name in names:
            try:
                measured = measure(name, table[name], device, dtype)
            except Exception as error:  # of this op: the others are worth knowing
                print(f"{name:22} {device:7} not in {dtype}: {type(error).__name__}: "
                      f"{' '.join(str(error).split())[:120]}")  # fmt: skip
                continue
            row = {"op": name, "device": device, **measured}
            rows.append(row)
            print("{:22} {:7} {:10.3f} {:13.3f} {:8.2f}".format(*row.values()), flush=True)
    if left_out:
        print(f"no case here for {', '.join(sorted({*left_out}))}")
    return rows


def arguments() -> argparse.Namespace:
    parser = flags.parser("benchmarks.kernels", __doc__)
    add = parser.add_argument
    add("ops", nargs="*", metavar="OP")
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto: cuda where it works")
    add("--dtype", choices=["float32", "bfloat16", "float16"], default="float32",
        help="on the GPU; the CPU computes in float32 (default: float32)")  # fmt: skip
    add("--compare", nargs="+", choices=COMPARISONS, default=list(COMPARISONS), metavar="WHAT",
        help=f"some of {', '.join(COMPARISONS)} (default: all)")  # fmt: skip
    add("--seconds", type=float, default=0.3, help="sizes go up to where a call takes so long")
    add("--course-size", type=int, default=4000, help="rows of the course's matrices: it has 10000")
    add("--threads", type=int, default=tt.get_num_threads())
    add("--plot", metavar="FILE.png", help="of sizes; of reference where only that is compared")
    args = parser.parse_args()
    table = cases(SIZES["cpu"])
    unknown = [name for name in args.ops if name not in table]
    if unknown:
        parser.error(f"no case for {', '.join(unknown)}: there is {', '.join(table)}")
    return args


@command
def main() -> None:
    args = arguments()
    tt.set_num_threads(args.threads)
    device = str(tt.backend.resolve(args.device))
    if device != "cpu":
        tt.cuda.set_device(device)
    result: dict[str, Any] = {"benchmark": "kernels", "threads": args.threads, "device": device,
                              "dtype": args.dtype}  # fmt: skip
    if "reference" in args.compare:
        result["rows"] = against_reference(args.ops, device, args.dtype)
    if "sizes" in args.compare:
        result["sizes"] = sizes.compare(args.ops, device, args.dtype, args.seconds)
    if "course" in args.compare:
        result["course"] = course.compare(device, args.course_size)
    if args.plot:
        Path(args.plot).parent.mkdir(parents=True, exist_ok=True)
        if result.get("sizes"):
            sizes.plot(result["sizes"], args.plot)
        elif result.get("rows"):
            plot(result["rows"], args.plot)
    print(json.dumps(result))


if __name__ == "__main__":
    raise SystemExit(main())
