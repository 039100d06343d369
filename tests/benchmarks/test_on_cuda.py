"""Benchmarks with --device cuda; that they run is seen in test_gpu_report.py."""

import math
import os
import subprocess
import sys

import pytest

from benchmarks.sizes import crossing


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
