"""A training step on tinytensor and on PyTorch: same model, same batch, equal threads, in turn.

    python tests/peers/step.py [SHAPE ...] [--threads 2] [--steps 15] [--compile]

Prints medians, the median of the ratios of pairs (PyTorch's time / ours: above 1 we are faster),
and, last, one JSON line. --compile compares with torch.compile instead of eager.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

PAUSE = 0.3  # seconds: OpenMP's threads keep a core busy for 0.2 after a step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(args.threads)  # before NumPy and torch are loaded

    import torch
    from peers.torch_gpt import twin

    import tinytensor as tt
    from benchmarks.shapes import SHAPES, named, training_step
    from benchmarks.timing import time_calls
    from gpt.model import GPT

    def rested(step: Callable[[], object]) -> float:
        """Seconds of a step, once the other library's threads have ceased to spin for work."""
        time.sleep(PAUSE)
        step()
        return time_calls(step, 1)

    torch.set_num_threads(args.threads)
    tt.set_num_threads(args.threads)
    rows = []
    print(f"{'shape':18} {'ours ms':>9} {'torch ms':>9} {'torch / ours':>13}")
    for name in args.shapes or SHAPES:
        shape = named(name)
        tt.manual_seed(0)
        model = GPT(shape.config)
        other = twin(model)
        ours = training_step(model, shape.ids())
        theirs = training_step(torch.compile(other) if args.compile else other, shape.ids(), torch)
        time_calls(ours, 3)
        time_calls(theirs, 3)
        pairs = [(rested(ours), rested(theirs)) for _ in range(args.steps)]
        row = {"shape": name, "ours_ms": median(a for a, _ in pairs) * 1e3,
               "torch_ms": median(b for _, b in pairs) * 1e3,
               "torch / ours": median(b / a for a, b in pairs)}  # fmt: skip
        rows.append(row)
        print(f"{name:18} {row['ours_ms']:9.1f} {row['torch_ms']:9.1f} {row['torch / ours']:13.2f}",
              flush=True)  # fmt: skip
    print(json.dumps({"benchmark": "step against torch", "threads": args.threads,
                      "compiled": args.compile, "rows": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
