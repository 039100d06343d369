"""benchmarks.gpu_report, whole, on the stand-in in tiny sizes; and what it says of failures."""

import json
import os
import subprocess
import sys

import pytest
from cuda_on_cpu.standin import installed

from benchmarks import gpu_report
from benchmarks.gpu_parts import Part, Sizes, count_tests, errors_of
from benchmarks.gpu_targets import targets

TINY = Sizes(
    step=["8/8/1/1/2"], peers=["8/8/1/1/2"], steps=1, product=8, copy=512, seconds=1e-3,
    check=["4/8/1/1/1", "--steps", "1"], kernels=["add"],
    shim=["--size", "1", "8", "32", "1", "20"], course=9, cpu_seconds=1e-4,
    device="stand-in", tests=["tests/cuda_on_cpu/test_launch.py::test_what_is_refused"],
    generate=["--preset", "shakespeare-cpu", "--new-tokens", "1", "--prompt-tokens", "2",
              "--batch", "1"],
    train="--max-steps 2 --n-layer 1 --n-head 1 --n-embd 8 --block-size 8 --batch-size 2 "
    "--eval-batches 1 --eval-every 1 --warmup-steps 1 --sample-chars 0 --final-chars 20 "
    "--n-chars 3000".split(),
)  # fmt: skip
STAND_IN = [sys.executable, "-m", "cuda_on_cpu.run"]
WHOLE = ["checks", "ceilings", "step", "tests", "shim", "train", "kernels", "sizes",
         "memory", "generate"]  # fmt: skip


@pytest.fixture
def stand_in():
    """The stand-in, also where the tests run on a GPU: what is tested is the report."""
    with installed():
        yield


def test_the_whole_of_it(stand_in, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("First Citizen:\nBefore we proceed any further, hear me speak.\n\n" * 60)
    report, stem = gpu_report.make(tmp_path / "results", 16, WHOLE, str(text), TINY, STAND_IN)
    outcomes = {name: part["outcome"] for name, part in report["parts"].items()}
    assert set(outcomes.values()) == {"done"}, json.dumps(report["parts"], indent=1)
    written = json.loads(stem.with_suffix(".json").read_text())
    assert written["parts"].keys() == {*WHOLE} and stem.name == "stand-in"
    measured = {t["what"]: t for t in written["targets"]}
    for what in ("CPU/GPU parity", "two runs bit-identical", "no hidden syncs",
                 "a captured step is the eager one, bit for bit", "tests on the GPU",
                 "each kernel as on the CPU shim"):  # fmt: skip
        assert measured[what]["met"], measured[what]
    assert measured["preset shakespeare-gpu: best val loss"]["met"] is False  # two steps
    assert [t["met"] for t in written["targets"][:2]] == [None, None]  # nobody measured PyTorch
    page = stem.with_suffix(".md").read_text()
    assert page.startswith("# stand-in") and "pending" in page and "share" in page
    assert stem.with_name("stand-in-sizes.png").exists()
    data = {name: part["data"] for name, part in written["parts"].items()}
    assert data["memory"]["rows"][0]["peak_mb"] > 0 and data["generate"]["rows"]
    assert data["sizes"]["sizes"][0]["gpu_ms"] and data["kernels"]["course"]["mistaken"]["gpu_ms"]
    assert {row["unit"] for row in data["ceilings"]["rows"]} == {"GB/s", "TFLOP/s", "us"}
    for folder in (tmp_path, gpu_report.ROOT):  # what is committed names no folder of a machine
        assert str(folder) not in page


def part(name, *code, seconds=60.0, **more):
    return Part(name, name, seconds, "-c", ["\n".join(code)], **more)


def test_nothing_stops_the_others(stand_in, tmp_path, monkeypatch):
    """A crash, a hang, a program that is not there, no time left: said, and the next one runs."""
    mine = [
        part("killed", "import os", "os.kill(os.getpid(), 11)"),
        part("raises", "print('so far')", "raise ValueError('no')"),
        part("hangs", "import time, subprocess, sys", "print('row 1')",
             "subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])", seconds=3),
        part("missing", missing="no such thing"),
        part("refuses", "import sys", "sys.exit('x') if 0 else (print('error: why'), sys.exit(2))"),
        part("fine", "print('{\"benchmark\": \"fine\"}')"),
    ]  # fmt: skip
    written = []
    real = gpu_report.write

    def write(report, stem):
        real(report, stem)
        written.append(json.loads(stem.with_suffix(".json").read_text()))

    monkeypatch.setattr(gpu_report, "parts", lambda *args: mine)
    monkeypatch.setattr(gpu_report, "write", write)
    report, _ = gpu_report.make(tmp_path, python=[sys.executable])
    outcomes = {name: p["outcome"] for name, p in report["parts"].items()}
    assert outcomes["killed"].startswith("failed with exit code -11")
    assert outcomes["raises"] == "failed with exit code 1: ValueError: no"
    assert outcomes["hangs"] == "out of time after 3 s"
    assert report["parts"]["hangs"]["printed"] == ["row 1"]  # what it had measured is kept
    assert outcomes["missing"] == "not here: no such thing"
    assert outcomes["refuses"] == "not here: error: why"
    assert outcomes["fine"] == "done" and report["parts"]["fine"]["data"] == {"benchmark": "fine"}
    assert [len(w["parts"]) for w in written] == [1, 2, 3, 4, 5, 6]  # after each one
    report, _ = gpu_report.make(tmp_path, minutes=0.01, python=[sys.executable])
    assert {p["outcome"] for p in report["parts"].values()} == {
        "not here: no such thing", "not begun: no time was left"
    }  # fmt: skip


def test_some_parts_again(stand_in, tmp_path, monkeypatch):
    mine = [part("a", "print('{\"n\": 1}')"), part("b", "print('{\"n\": 1}')")]
    monkeypatch.setattr(gpu_report, "parts", lambda *args: mine)
    gpu_report.make(tmp_path, python=[sys.executable])
    mine[1] = part("b", "print('{\"n\": 2}')")
    report, _ = gpu_report.make(tmp_path, wanted=["b"], python=[sys.executable])
    assert [report["parts"][name]["data"]["n"] for name in "ab"] == [1, 2]


def test_without_a_gpu_one_sentence():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_report"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 2 and not done.stdout and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: there is no GPU to report on: ")


VERBOSE = """\
[gw0] [ 25%] PASSED tests/a.py::test_x[1 FAILED by name]
tests/a.py::test_y FAILED                         [ 50%]
[gw1] [ 75%] ERROR tests/b.py::test_z
tests/b.py::test_w SKIPPED (no)                   [100%]
=========================== short test summary info ============================
FAILED tests/a.py::test_y - AssertionError
"""


def test_what_is_read():
    found = count_tests(VERBOSE)
    assert [found[k] for k in ("passed", "failed", "error", "skipped")] == [1, 1, 1, 1]
    assert found["failures"] == ["tests/a.py::test_y", "tests/b.py::test_z"]
    assert errors_of("...\n========= ERROR SUMMARY: 3 errors\n") == {
        "benchmark": "sanitizer", "errors": 3}  # fmt: skip
    assert errors_of("cannot start") is None


@pytest.mark.parametrize("ratio, met", [(1.01, True), (0.99, False)])
def test_targets_are_of_what_was_measured(ratio, met):
    rows = [{"torch / ours": ratio}, {"torch / ours": 2.0}]
    found = {t.what: t for t in targets({
        "train": {"outcome": "out of time", "seconds": 180.1, "data": {"val_loss": 1.5}},
        "torch": {"outcome": "done", "seconds": 1, "data": {"rows": rows}},
        "step": {"data": {"rows": [{"gflop_per_s": 4e5, "peak_gflop_per_s": 7e5}]}},
        "ceilings": {"data": {"rows": [{"dtype": "bfloat16", "value": 800.0}]}},
    })}  # fmt: skip
    eager = found["GPT-2 124M, bf16, T=1024: tokens/s against PyTorch eager"]
    assert eager.met is met and eager.measured == f"{ratio:.3f}x"
    share = found["its share of the measured bf16 matrix-product peak"]
    assert share.measured == "50.0%" and share.met  # of the best product, not of the slower one
    char = found["6/6/384 char GPT, T=256, batch 64: step time against PyTorch eager"]
    assert char.measured == "0.500x" and char.met
    assert found["preset shakespeare-gpu: best val loss"].measured == "1.5000"
    assert found["and its time, evaluations and samples included"].met is False
    assert found["no hidden syncs"].measured == "pending"
    assert all(t.met is None and t.measured == "pending" for t in targets({}))
