"""The most memory that a training step takes, in a process of its own for each shape.

    python -m benchmarks.memory                    the shapes of docs/performance.md
    python -m benchmarks.memory --device cuda --dtype bfloat16
    python tests/peers/memory.py                   the same beside PyTorch

Peak resident memory over five steps, less what the process held before the model was built. Page
faults are those of the last step: memory that the system had to hand out once more. On a GPU, the
most memory in use by arrays, and what CuPy took of the device. Prints a table and, last, one JSON
line.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from typing import Any

import tinytensor as tt

from .shapes import ON_CUDA, SHAPES, How, Shape, add_flags, named, our_step

STEPS, MB = 5, 2**20


def measure(make_step: Any) -> dict[str, float]:
    """Of this process, which should have done nothing else yet."""
    import resource

    from tinytensor.kernels.memory import resident

    before = resident()[0]
    step = make_step()
    for _ in range(STEPS - 1):
        step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {"peak_mb": (resident()[1] - before) / MB, "page_faults": faults}


def measure_cuda(of: Shape, how: How) -> dict[str, float]:
    """Of the GPU, which this process has to itself."""
    gc.collect()
    tt.cuda.empty_cache()
    tt.cuda.reset_peak_memory_stats(how.device)
    before = tt.cuda.memory_allocated(how.device)
    step = our_step(of, how)
    for _ in range(STEPS):
        step()
    used = tt.cuda.max_memory_allocated(how.device) - before
    return {"peak_mb": used / MB, "reserved_mb": tt.cuda.max_memory_reserved(how.device) / MB}


def in_a_process(*command: str) -> dict[str, float]:
    """The JSON line that a Python process prints last."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.memory", description=__doc__)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE")
    parser.add_argument("--alone", action="store_true", help="measure one shape in this process")
    add_flags(parser)
    args = parser.parse_args()
    how, rows = How.asked(args), []
    on_cuda = how.device != "cpu"
    names = args.shapes or list(ON_CUDA if on_cuda else SHAPES)
    if args.alone:
        print(json.dumps(measure(lambda: our_step(named(names[0])))))
        return
    print(f"{'shape':18} {'peak MB':>9} {'reserved MB' if on_cuda else 'page faults':>12}")
    for name in names:
        if on_cuda:
            row = measure_cuda(named(name), how)
        else:
            row = in_a_process("-m", "benchmarks.memory", name, "--alone")
        rows.append({"shape": name, **row})
        print(f"{name:18} {row['peak_mb']:9.1f} {[*row.values()][1]:12.0f}", flush=True)
    print(json.dumps({"benchmark": "memory", **how._asdict(), "rows": rows}))


if __name__ == "__main__":
    main()
