"""The most memory that a training step takes, in a process of its own for each shape.

    python -m benchmarks.memory                    the shapes of docs/performance.md
    python tests/peers/memory.py                   the same beside PyTorch

Peak resident memory over five steps, less what the process held before the model was built. Page
faults are those of the last step: memory that the system had to hand out once more. Prints a table
and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from .shapes import SHAPES, named, our_step

STEPS = 5


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
    return {"peak_mb": (resident()[1] - before) / 2**20, "page_faults": faults}


def in_a_process(*command: str) -> dict[str, float]:
    """The JSON line that a Python process prints last."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.memory", description=__doc__)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--alone", action="store_true", help="measure one shape in this process")
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(lambda: our_step(named(args.shapes[0])))))
        return
    rows = []
    print(f"{'shape':18} {'peak MB':>9} {'page faults':>12}")
    for name in args.shapes:
        row = in_a_process("-m", "benchmarks.memory", name, "--alone")
        rows.append({"shape": name, **row})
        print(f"{name:18} {row['peak_mb']:9.1f} {row['page_faults']:12}", flush=True)
    print(json.dumps({"benchmark": "memory", "rows": rows}))


if __name__ == "__main__":
    main()
