"""Benchmarks with --device cuda, on the stand-in: they run, and say what they should."""

import json
import math
import os
import subprocess
import sys

import pytest

from benchmarks.sizes import crossing

TINY = "8/8/1/1/2"


@pytest.mark.parametrize(
    "command",
    [
        ["step", TINY, "--device", "cuda", "--steps", "1", "--peak-size", "8", "--no-graph"],
        ["memory", TINY, "--device", "cuda", "--dtype", "bfloat16", "--no-graph"],
        ["generate", "--preset", "shakespeare-cpu", "--device", "cuda", "--new-tokens", "1",
         "--prompt-tokens", "2", "--batch", "1"],
        ["kernels", "add", "--device", "cuda", "--compare", "sizes", "course", "--seconds",
         "0.0001", "--course-size", "9"],
        ["ceilings", "--size", "8", "--bytes", "512"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_it_runs(command):
    done = subprocess.run(
        [sys.executable, "-m", "cuda_on_cpu.run", f"benchmarks.{command[0]}", *command[1:]],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == command[0] and result["device"].startswith("cuda")
    if command[0] == "memory":
        assert result["rows"][0]["peak_mb"] > 0
    if command[0] == "kernels":
        assert result["sizes"][0]["gpu_ms"] and result["course"]["mistaken"]["gpu_ms"] > 0
        assert "GPU wins from" in done.stdout and "mislead" in done.stdout
    if command[0] == "ceilings":
        assert {row["unit"] for row in result["rows"]} == {"GB/s", "TFLOP/s", "us"}


def test_without_a_gpu_one_sentence(monkeypatch):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ceilings"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: device 'cuda' cannot be used")


def test_where_the_gpu_starts_to_win():
    rows = [1, 10, 100]
    assert crossing(rows, [1, 1, 1], [2, 2, 2]) is None
    assert crossing(rows, [2, 2, 2], [1, 1, 1]) == 1
    assert crossing(rows, [1, 1, 4], [2, 2, 2]) == pytest.approx(10 * math.sqrt(10))
    assert crossing(rows, [3, 1, 4], [2, 2, 2]) == pytest.approx(10 * math.sqrt(10))  # for good
    assert crossing(rows, [1, 1, 1], []) is None
