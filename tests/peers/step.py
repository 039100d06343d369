"""A training step on tinytensor and on PyTorch: same model, same batch, in turn.

    python tests/peers/step.py [SHAPE ...] [--threads 2] [--steps 15] [--compile]
    python tests/peers/step.py --device cuda --dtype bfloat16 [--compile]

On the CPU with equal threads. On a GPU PyTorch runs with its best: autocast, scaled_dot_product_
attention, the fused AdamW; ours as one CUDA graph, unless --no-graph. The first losses must be
equal. Prints medians, the median of the ratios of pairs (PyTorch's time / ours: above 1 we are
faster), and, last, one JSON line. --compile compares with torch.compile instead of eager.
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
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

PAUSE = 0.3  # seconds: OpenMP's threads keep a core busy for 0.2 after a step
# the two hold their memory at once
ON_CUDA = ["1024/768/12/12/16/50304", "256/384/6/6/64"]
CLOSE = {"float32": 1e-4, "tf32": 1e-3, "float16": 5e-3, "bfloat16": 1e-2}  # of first losses


def arguments() -> argparse.Namespace:
    threads = argparse.ArgumentParser(add_help=False)
    threads.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        # before NumPy and torch are loaded
        os.environ[variable] = str(threads.parse_known_args()[0].threads)
    from benchmarks.shapes import add_flags

    parser = argparse.ArgumentParser(description=__doc__, parents=[threads])
    parser.add_argument("shapes", nargs="*", metavar="SHAPE")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--compile", action="store_true")
    add_flags(parser)
    return parser.parse_args()


def main() -> int:
    args = arguments()

    import torch
    from peers.torch_gpt import twin

    import tinytensor as tt
    from benchmarks.shapes import SHAPES, How, forward, named, training_step
    from benchmarks.timing import time_calls
    from gpt.model import GPT

    how = How.asked(args)._replace(compile=args.compile)
    on_cuda = how.device != "cpu"
    ours_clock, torch_clock = (tt.cuda, torch.cuda) if on_cuda else (None, None)
    if on_cuda and not torch.cuda.is_available():
        print("this PyTorch has no CUDA: install one that has, for --device cuda")
        return 2

    def rested(step: Callable[[], object], clock: Any) -> float:
        """Seconds of a step, once the other library's threads have ceased to spin for work."""
        if not on_cuda:
            time.sleep(PAUSE)
        step()
        return time_calls(step, 1, clock)

    torch.set_num_threads(args.threads)
    tt.set_num_threads(args.threads)
    rows = []
    print(f"{'shape':24} {'ours ms':>9} {'torch ms':>9} {'torch / ours':>13} {'tokens/s':>10}")
    for name in args.shapes or (ON_CUDA if on_cuda else SHAPES):
        shape = named(name)
        tt.manual_seed(0)
        model = GPT(shape.config)
        other = twin(model).to(how.device)
        model, ids, eager = model.to(how.device), shape.ids(), how._replace(graph=False)
        with tt.no_grad(), torch.no_grad():
            first = forward(model, ids, how=how)().item()
            theirs_first = forward(other, ids, torch, how)().item()
        if abs(first - theirs_first) > CLOSE[how.dtype] * theirs_first:
            print(f"{name}: the first losses differ: {first} and PyTorch's {theirs_first}")
            return 1
        ours = training_step(model, ids, how=how)
        theirs = training_step(torch.compile(other) if args.compile else other, ids, torch, eager)
        for step in (ours, theirs):
            time_calls(step, 3)
        pairs = [(rested(ours, ours_clock), rested(theirs, torch_clock)) for _ in range(args.steps)]
        seconds = median(a for a, _ in pairs)
        row = {"shape": name, "ours_ms": seconds * 1e3,
               "torch_ms": median(b for _, b in pairs) * 1e3,
               "torch / ours": median(b / a for a, b in pairs),
               "tokens_per_s": shape.tokens / seconds}  # fmt: skip
        rows.append(row)
        print("{:24} {:9.2f} {:9.2f} {:13.3f} {:10.0f}".format(*row.values()), flush=True)
        del model, other, ours, theirs, step
        if on_cuda:
            tt.cuda.empty_cache()
            torch.cuda.empty_cache()
    print(json.dumps({"benchmark": "step against torch", "threads": args.threads,
                      "torch": torch.__version__, **how._asdict(), "rows": rows}))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
