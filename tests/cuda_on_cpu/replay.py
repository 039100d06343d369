"""A GPU beside the shim: launches as a GPU did them, done again on the CPU, the outputs compared.

    python -m cuda_on_cpu.replay            records on this GPU, compares in a second process

Kernel by kernel the first launches of each storage type are kept, with their arguments before and
after: of the ops that have kernels, in small sizes, and of training steps in each dtype. What a
kernel may differ by is rounding: fused multiplications, the GPU's exp and tanh, and sums that
tensor cores make in an order of their own. A launch with addresses in a struct cannot be done
elsewhere: it is counted, and left to the tests. Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tinytensor as tt
from benchmarks import flags
from benchmarks.cases import Size, call, cases
from benchmarks.kernels import with_kernels
from benchmarks.shapes import DTYPES, How, named, training_step
from gpt.errors import command
from gpt.model import GPT
from tinytensor.kernels.cuda.launch import Kernel, kernel

# |out - shim| / |shim|, by the dtype that is stored
LIMITS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
KEPT = 2  # launches of each kernel and storage type
SMALL, TINY = Size(2, 80, 128, 2, 300), "40/64/2/2/2/100"


class Recorder:
    """Launches, in `arrays` by number and place, and in `launches` what else there is to them."""

    def __init__(self) -> None:
        self.launches: list[dict[str, Any]] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.counts: Counter = Counter()
        self.structs: Counter = Counter()

    def record(self, own: Kernel, launch: Any, grid: tuple, block: tuple, args: tuple, shared: int):
        types = [str(getattr(a, "dtype", None)) for a in args if hasattr(a, "get")]
        key = own.file, own.name, *types, *(a is None for a in args)
        if any(isinstance(a, np.ndarray) for a in args):
            self.structs[own.name] += 1
            return launch(own, grid, block, *args, shared=shared)
        self.counts[key] += 1
        if self.counts[key] > KEPT:
            return launch(own, grid, block, *args, shared=shared)
        number, plain = len(self.launches), []
        for i, a in enumerate(args):
            on_device = hasattr(a, "get")
            plain.append(a.dtype.name if on_device else None if a is None else a)
            if on_device:
                self.arrays[f"{number}.{i}.before"] = bits(a.get())
        launch(own, grid, block, *args, shared=shared)
        for i, a in enumerate(args):
            if hasattr(a, "get") and not own.parameters[i].const:
                self.arrays[f"{number}.{i}.after"] = bits(a.get())
        numbers = [a.item() if isinstance(a, np.generic) else a for a in plain]
        self.launches.append({"file": own.file, "name": own.name, "grid": [*map(int, grid)],
                              "block": [*map(int, block)], "shared": int(shared),
                              "args": numbers})  # fmt: skip

    def save(self, path: Path) -> None:
        text = json.dumps({"launches": self.launches, "structs": self.structs})
        np.savez(path, launches=np.array(text), **self.arrays)  # type: ignore[arg-type]


def bits(a: np.ndarray) -> np.ndarray:
    """bfloat16 is no dtype of a .npz."""
    return a.view(np.uint16) if a.dtype.name == "bfloat16" else a


@contextmanager
def recording() -> Iterator[Recorder]:
    """Inside, launches are recorded."""
    found, launch = Recorder(), Kernel.__call__

    def wrapped(self, grid, block, *args, shared=0):
        return found.record(self, launch, grid, block, args, shared)

    Kernel.__call__ = wrapped  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Kernel.__call__ = launch  # type: ignore[method-assign]


def work(device: str) -> None:
    """What is recorded."""
    table = cases(SMALL)
    for dtype in ("float32", "float16", "bfloat16"):
        for name in with_kernels("cupy"):
            if name in table:
                try:
                    call(table[name], device, dtype)()
                except (TypeError, ValueError, NotImplementedError) as error:
                    print(f"{name}: not in {dtype}: {str(error)[:80]}")
    for dtype in DTYPES:
        tt.manual_seed(0)
        of = named(TINY)
        model = GPT(replace(of.config, dropout=0.1)).to(device)
        step = training_step(model, of.ids(), how=How(device, dtype))
        for _ in range(2):
            step()


def compare(path: Path) -> list[dict[str, Any]]:
    """Each kernel's worst difference, as this process's `cuda` does the launches."""
    xp = tt.backend.cupy()
    worst: dict[tuple, dict[str, Any]] = {}
    with np.load(path) as arrays:
        kept = json.loads(str(arrays["launches"]))
        for number, launch in enumerate(kept["launches"]):
            args = list(launch["args"])
            for i, a in enumerate(launch["args"]):
                if (key := f"{number}.{i}.before") in arrays:
                    args[i] = xp.asarray(arrays[key]).view(dtype(a))
            grid, block = tuple(launch["grid"]), tuple(launch["block"])
            kernel(launch["file"], launch["name"])(grid, block, *args, shared=launch["shared"])
            for i, a in enumerate(launch["args"]):
                if f"{number}.{i}.after" in arrays:
                    theirs = arrays[f"{number}.{i}.after"].view(dtype(a))
                    row = judged(launch["name"], a, theirs, args[i].get())
                    known = worst.setdefault((launch["name"], a), row | {"launches": 0})
                    known["launches"] += 1
                    if not row["difference"] <= known["difference"]:
                        known |= row
    return [*worst.values(),
            *({"kernel": name, "dtype": "addresses", "difference": None, "launches": n, "ok": True}
              for name, n in kept["structs"].items())]  # fmt: skip


def dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes  # noqa: F401  registers it

    return np.dtype(name)


def judged(name: str, kind: str, theirs: np.ndarray, shim: np.ndarray) -> dict[str, Any]:
    """One output; integers and bools must be the same, and so must what is not finite."""
    if kind not in LIMITS:
        difference = float((theirs != shim).mean()) if shim.size else 0.0
        limit = 0.0
    else:
        a, b = (x.astype(np.float64) for x in (theirs, shim))
        finite = np.isfinite(a) & np.isfinite(b)
        same = finite | (np.isnan(a) & np.isnan(b)) | (a == b)
        size = np.linalg.norm(b[finite])
        difference = float(np.linalg.norm((a - b)[finite]) / size) if size else 0.0
        difference, limit = difference if same.all() else float("inf"), LIMITS[kind]
    return {"kernel": name, "dtype": kind, "difference": difference, "ok": difference <= limit}


@command
def main() -> int:
    parser = flags.parser("cuda_on_cpu.replay", __doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compare", metavar="FILE", help="on the `cuda` of this process")
    args = parser.parse_args()
    if args.compare:
        rows = compare(Path(args.compare))
        print(f"{'kernel':32} {'dtype':10} {'outputs':>8} {'difference':>11}")
        for row in rows:
            off = "not done again" if row["difference"] is None else f"{row['difference']:.1e}"
            print(f"{row['kernel']:32} {row['dtype']:10} {row['launches']:8} {off:>11}"
                  f"{'' if row['ok'] else '  TOO FAR APART'}")  # fmt: skip
        print(json.dumps({"benchmark": "replay", "rows": rows}))
        return 0 if rows and all(row["ok"] for row in rows) else 1
    tt.cuda.set_device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "launches.npz"
        with recording() as found:
            work(args.device)
        found.save(path)
        here = [sys.executable, "-m", "cuda_on_cpu.run", "cuda_on_cpu.replay"]
        return subprocess.run([*here, "--compare", str(path)]).returncode


if __name__ == "__main__":
    raise SystemExit(main())
