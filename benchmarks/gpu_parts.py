"""The parts of benchmarks.gpu_report: each a command in a process of its own, and its time.

A part that breaks the GPU's context, hangs or dies so takes no other with it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from data.recipes.shakespeare import FILE

ROOT = Path(__file__).parents[1]
SLOW_TESTS = ["tests/cuda_on_cpu/test_every_op.py", "tests/cuda_on_cpu/test_functions_on_cuda.py"]


class Sizes(NamedTuple):
    """Of what is measured. Those of a test are tiny."""

    step: list[str] = ["gpt2-124M-1024", "256/384/6/6/64"]
    peers: list[str] = ["1024/768/12/12/16/50304", "256/384/6/6/64"]  # both libraries' memory
    steps: int = 15
    product: int = 8192
    copy: int = 2**30
    seconds: float = 0.1  # of a measurement of a ceiling
    check: list[str] = ["256/384/6/6/4"]
    kernels: list[str] = []  # all
    shim: list[str] = []
    course: int = 10000
    cpu_seconds: float = 0.1  # where sizes end
    generate: list[str] = ["--preset", "gpt2"]
    train: list[str] = []  # flags beside the preset's
    graph: str = "--graph"
    tests: list[str] = ["tests/cuda_on_cpu"]
    device: str = "cuda"  # of pytest's flag
    dtype: str = "bfloat16"


class Part(NamedTuple):
    """What to run: `python -m MODULE ARGS`, for at most so many seconds of 8 minutes."""

    name: str
    title: str
    seconds: float
    module: str
    args: list[str]
    before: tuple[str, ...] = ()  # a program that runs python
    missing: str = ""  # why it cannot be run here
    read: Callable[[str], Any] | None = None  # from what it printed; by itself the last JSON line


def last_json(text: str) -> Any:
    """The last line that is a JSON object, or None."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return None


def count_tests(text: str) -> dict[str, Any]:
    """How many tests passed so far, from pytest -v, and what failed."""
    counts = dict.fromkeys(("passed", "failed", "error", "skipped"), 0)
    failed = []
    for line in text.split("short test summary info")[0].splitlines():
        found = re.search(r"\b(PASSED|FAILED|ERROR|SKIPPED)\b", line)
        if found and (test := re.search(r"tests/\S+::.*?(?= (?:PASSED|FAILED|ERROR|SKIPPED)|$)",
                                        line)):  # fmt: skip
            counts[found[1].lower()] += 1
            if found[1] in ("FAILED", "ERROR"):
                failed.append(test[0].strip())
    return {"benchmark": "tests", **counts, "failures": failed[:40]}


def errors_of(text: str) -> dict[str, Any] | None:
    """What compute-sanitizer counted."""
    found = re.search(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", text)
    return {"benchmark": "sanitizer", "errors": int(found[1])} if found else None


def run_of(folder: Path) -> Callable[[str], Any]:
    """The losses of a training run, and how far it came."""

    def read(text: str) -> Any:
        path = folder / "metrics.jsonl"
        if not path.exists():
            return None
        records = [json.loads(line) for line in path.read_text().splitlines()]
        exams = [r for r in records if r.get("val_loss")]
        if not exams:
            return None
        best = min(exams, key=lambda r: r["val_loss"])
        rates = [r["tokens_per_s"] for r in records if "tokens_per_s" in r]
        return {"benchmark": "train", "steps": records[-1]["step"], "val_loss": best["val_loss"],
                "of_step": best["step"], "final_val_loss": records[-1].get("final_val_loss"),
                "tokens_per_s": sorted(rates)[len(rates) // 2] if rates else None}  # fmt: skip

    return read


def shakespeare(given: str | None) -> str | None:
    """The path of the text, if it is here: nothing is downloaded."""
    beside = "shared/data/shakespeare/tinyshakespeare.txt"
    places = [given, ROOT / beside, ROOT.parent / beside, FILE.path()]
    return next((str(p) for p in places if p and Path(p).exists()), None)


def parts(sizes: Sizes, text: str | None, folder: Path, plots: Path) -> list[Part]:
    """In the order of what one wants to know first; `folder` is for what they write."""
    cuda = ["--device", "cuda"]
    half = [*cuda, "--dtype", sizes.dtype]
    steps = ["--steps", str(sizes.steps)]
    parallel = ["-n", "8"] if find_spec("xdist") and sizes.device == "cuda" else []
    pytest = ["--device", sizes.device, "-m", "cuda", "-v", "--tb=line", "-p", "no:cacheprovider",
              "--continue-on-collection-errors", *parallel]  # fmt: skip
    slow = [f"--ignore={path}" for path in SLOW_TESTS]
    data, run = shakespeare(text), folder / "run"
    sanitizer = shutil.which("compute-sanitizer") or ""
    no_sanitizer = "" if sanitizer else "compute-sanitizer is not on the PATH"
    no_torch = "" if find_spec("torch") else "PyTorch is not installed"
    watched = ["--work"]
    return [
        Part("checks", "Parity, determinism, graphs, waiting", 75, "benchmarks.checks",
             [*sizes.check, *cuda]),
        Part("ceilings", "Ceilings of the GPU", 30, "benchmarks.ceilings",
             [*cuda, "--size", str(sizes.product), "--bytes", str(sizes.copy), "--seconds",
              str(sizes.seconds)]),
        Part("step", "Training steps", 40, "benchmarks.step",
             [*sizes.step, *half, sizes.graph, *steps, "--peak-size", str(sizes.product)]),
        Part("torch", "Beside PyTorch, eager", 60, "peers.step",
             [*sizes.peers, *half, sizes.graph, *steps], missing=no_torch),
        Part("tests", "Tests on the GPU", 90, "pytest", [*sizes.tests, *pytest, *slow],
             read=count_tests),
        Part("shim", "Each kernel beside the CPU shim", 50, "cuda_on_cpu.replay",
             [*cuda, *sizes.shim]),
        Part("train", "The preset shakespeare-gpu", 180, "gpt.train",
             ["--preset", "shakespeare-gpu", "--data", data or "", "--out", str(run), *half,
              *sizes.train], missing="" if data else "the text is not here: give --text FILE",
             read=run_of(run)),
        Part("compiled", "Beside PyTorch, torch.compile", 110, "peers.step",
             [*sizes.peers[:1], *half, sizes.graph, *steps, "--compile"], missing=no_torch),
        Part("kernels", "Kernels beside their references", 60, "benchmarks.kernels",
             [*sizes.kernels, *half, "--compare", "reference", "course", "--course-size",
              str(sizes.course)]),
        Part("sizes", "Where the GPU starts to win", 60, "benchmarks.kernels",
             [*sizes.kernels, *half, "--compare", "sizes", "--seconds", str(sizes.cpu_seconds),
              "--plot", str(plots)]),
        Part("memcheck", "compute-sanitizer, memcheck", 60, "cuda_on_cpu.replay",
             watched, (sanitizer, "--tool", "memcheck", "--report-api-errors", "no"),
             no_sanitizer, errors_of),
        Part("racecheck", "compute-sanitizer, racecheck", 60, "cuda_on_cpu.replay",
             watched, (sanitizer, "--tool", "racecheck"), no_sanitizer, errors_of),
        Part("memory", "Memory of a step", 20, "benchmarks.memory",
             [*sizes.step, *half, sizes.graph]),
        Part("generate", "Writing", 30, "benchmarks.generate", [*sizes.generate, *cuda]),
        Part("more_tests", "Every op on the GPU", 120, "pytest", [*SLOW_TESTS, *pytest],
             read=count_tests),
    ]  # fmt: skip
