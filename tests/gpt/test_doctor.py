"""The doctor: says what it sees, what to do, and never falls ill itself."""

import subprocess
import sys

import pytest

from gpt import doctor


def run(repo, *flags: str, code: str | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, *flags, *(["-c", code] if code else ["-m", "gpt.doctor"])]
    return subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=60)


def test_a_ready_machine_is_told_so(repo):
    result = run(repo)
    assert result.returncode == 0, result.stdout + result.stderr
    for word in ("Python", "NumPy", "BLAS", "GFLOP/s", "threads", "lzma", "driver", "CuPy",
                 "memory", "disk", "Ready: python -m gpt.train"):  # fmt: skip
        assert word in result.stdout
    assert not result.stderr


def test_without_any_package_it_still_answers(repo):
    result = run(repo, "-S")  # no site-packages
    assert result.returncode == 1 and not result.stderr
    assert "FIX  NumPy" in result.stdout and "make train" in result.stdout
    assert "Not ready" in result.stdout


def test_a_check_that_fails_is_a_finding(monkeypatch):
    def broken():
        yield doctor.Finding("x", "fine")
        raise OSError("no /proc")

    monkeypatch.setattr(doctor, "CHECKS", (broken, doctor.disk))
    findings = list(doctor.examine())
    assert findings[0].found == "fine" and "no /proc" in findings[1].found
    assert findings[2].what == "disk"


@pytest.mark.parametrize(
    "finding, line",
    [
        (doctor.Finding("a", "b"), "OK   a          b"),
        (doctor.Finding("a", "b", "c"), "FIX  a          b\n                 -> c"),
        (doctor.Finding("a", "b", "c", needed=False), " -   a          b\n                 -> c"),
    ],
)
def test_lines(finding, line):
    assert str(finding) == line


def test_missing_things_are_named_with_their_fix(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "installed", lambda name: False)
    monkeypatch.setattr(doctor, "driver_cuda_version", lambda: (12, 4))
    driver, cupy = doctor.cuda()
    assert driver.fix is None and "12.4" in driver.found
    assert "cuda12" in cupy.fix and not cupy.needed
    monkeypatch.setattr(doctor, "memory_bytes", lambda: (doctor.GB // 2, doctor.GB))
    (memory,) = doctor.memory()
    assert memory.fix and memory.needed
    monkeypatch.setitem(sys.modules, "lzma", None)  # as if Python were built without it
    (lzma,) = doctor.lzma()
    assert "liblzma" in lzma.fix


def test_fewer_threads_than_cores_are_explained(monkeypatch):
    monkeypatch.setattr(doctor, "usable_cores", lambda: 8)
    monkeypatch.setattr(doctor, "blas_threads", lambda: 1)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    found = {f.what: f for f in doctor.numpy()}
    assert "unset OPENBLAS_NUM_THREADS" in found["threads"].fix


def test_memory_is_within_the_machines():
    available, total = doctor.memory_bytes()
    assert total is None or 0 < available <= total


def test_arguments_are_refused_and_help_is_given(repo):
    assert run(repo, code="import sys; sys.argv[1:] = ['--fast']; import gpt.doctor as d; "
               "sys.exit(d.main())").returncode == 2  # fmt: skip
