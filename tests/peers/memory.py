"""The most memory of a training step, on tinytensor and on PyTorch, each in a process of its own.

    python tests/peers/memory.py [SHAPE ...]

Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from benchmarks.memory import in_a_process, measure  # noqa: E402
from benchmarks.shapes import SHAPES, named, our_step, training_step  # noqa: E402


def step(name: str, library: str) -> Callable[[], object]:
    if library == "ours":
        return our_step(named(name))
    import torch
    from peers.torch_gpt import TorchGPT

    shape = named(name)
    return training_step(TorchGPT(shape.config), shape.ids(), torch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--alone", choices=["ours", "torch"], help="measure in this process")
    args = parser.parse_args()
    if args.alone:
        if args.alone == "torch":
            import peers.torch_gpt  # noqa: F401  its memory is not the step's
        print(json.dumps(measure(lambda: step(args.shapes[0], args.alone))))
        return
    rows = []
    print(f"{'shape':18} {'ours MB':>9} {'torch MB':>9} {'torch / ours':>13}")
    for name in args.shapes:
        ours, theirs = (
            in_a_process(__file__, name, "--alone", library)["peak_mb"]
            for library in ("ours", "torch")
        )
        rows.append({"shape": name, "ours_mb": ours, "torch_mb": theirs})
        print(f"{name:18} {ours:9.1f} {theirs:9.1f} {theirs / ours:13.2f}", flush=True)
    print(json.dumps({"benchmark": "memory against torch", "rows": rows}))


if __name__ == "__main__":
    main()
