"""Overhead of small tracked ops, ours against PyTorch's: `python tests/peers/overhead.py`.

One thread each, measured in turn, medians of paired ratios. Prints a table and one JSON line; the
exit code is 1 if a ratio is above 1.5.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch  # noqa: E402

import tinytensor as tt  # noqa: E402
from benchmarks.overhead import cases  # noqa: E402
from benchmarks.timing import paired  # noqa: E402

LIMIT = 1.5


def main() -> int:
    torch.set_num_threads(1)
    ours, theirs = cases(tt), cases(torch)
    ratios = {}
    print(f"{'forward + backward':30} {'ours us':>8} {'torch us':>9} {'ours / torch':>13}")
    for name in ours:
        a, b, ratios[name] = paired(ours[name], theirs[name])
        print(f"{name:30} {a * 1e6:8.1f} {b * 1e6:9.1f} {ratios[name]:13.2f}")
    print(json.dumps({"benchmark": "overhead against torch", "ours / torch": ratios}))
    return int(max(ratios.values()) > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
