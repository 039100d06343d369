"""The comparison of a GPU with the shim: what was recorded comes out again, and a fault is seen."""

import json

import numpy as np

from tinytensor.kernels.cuda.launch import kernel

from . import replay


def launched(cuda, tmp_path, change=None):
    """One launch of a kernel of the optimizer's, recorded; `change` of its result; the rows."""
    import cupy

    partial = cupy.asarray(np.arange(1, 101, dtype=np.float32))
    norm = cupy.zeros((), np.float32)
    with replay.recording() as found:
        kernel("adamw", "total_norm")((1,), (1024,), norm, partial, 100)
    if change:
        found.arrays["0.0.after"] = change(found.arrays["0.0.after"])
    found.save(tmp_path / "launches.npz")
    return replay.compare(tmp_path / "launches.npz")


def test_the_same_kernel_gives_the_same(cuda, tmp_path):
    (row,) = launched(cuda, tmp_path)
    assert row == {"kernel": "total_norm", "dtype": "float32", "difference": 0.0, "ok": True,
                   "launches": 1}  # fmt: skip
    json.dumps(row)


def test_another_result_is_seen(cuda, tmp_path):
    (row,) = launched(cuda, tmp_path, lambda a: (a * np.float32(1.0001)).astype(np.float32))
    assert not row["ok"] and 9e-5 < row["difference"] < 1.1e-4
    (row,) = launched(cuda, tmp_path, lambda a: a * np.float32(np.nan))
    assert not row["ok"]


def test_launches_are_undisturbed(cuda):
    """Recording changes no result, and ends with its block."""
    before = replay.Kernel.__call__
    with replay.recording():
        assert replay.Kernel.__call__ is not before
    assert replay.Kernel.__call__ is before
