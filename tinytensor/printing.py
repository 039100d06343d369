"""repr of a Tensor, as PyTorch prints it: `tensor([[1.0000, 2.5000]], requires_grad=True)`."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backend, dtypes

PRECISION, THRESHOLD, EDGE, WIDTH = 4, 1000, 3, 80


def number_formatter(array: np.ndarray) -> Any:
    """How PyTorch writes the numbers of an array: a width for all, 4 decimals or exponents."""
    if array.dtype.kind == "b":
        return lambda v: f"{bool(v)!s:>{5 if not array.all() else 4}}"
    if array.dtype.kind in "iu":
        width = max((len(str(v)) for v in array.ravel().tolist()), default=1)
        return lambda v: f"{v:>{width}}"
    values = array.astype(np.float64).ravel()
    finite = values[np.isfinite(values) & (values != 0)]
    size = np.abs(finite)
    integral = finite.size == 0 or bool((finite == np.ceil(finite)).all())
    if finite.size == 0:
        form = "{:.0f}."
    elif integral:
        form = "{:.4e}" if size.max() / size.min() > 1000 or size.max() > 1e8 else "{:.0f}."
    else:
        wide = size.max() / size.min() > 1000 or size.max() > 1e8 or size.min() < 1e-4
        form = "{:.4e}" if wide else "{:.4f}"
    write = lambda v: form.format(v) if np.isfinite(v) else str(float(v))  # noqa: E731
    width = max((len(write(v)) for v in values), default=0)
    return lambda v: f"{write(float(v)):>{width}}"


def _summary(array: np.ndarray) -> np.ndarray:
    """The corners of a large array: what is printed of it."""
    for axis, n in enumerate(array.shape):
        if n > 2 * EDGE:
            keep = [*range(EDGE), *range(n - EDGE, n)]
            array = array.take(keep, axis)
    return array


def _lines(array: np.ndarray, write: Any, indent: int, cut: bool) -> str:
    if array.ndim == 0:
        return write(array.item())
    n = len(array)
    parts: list[Any] = [None] * n
    order = [*range(EDGE), None, *range(n - EDGE, n)] if cut and n > 2 * EDGE else [*range(n)]
    parts = ["..." if i is None else _lines(array[i], write, indent + 1, cut) for i in order]
    if array.ndim > 1:
        return "[" + (",\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts).replace(
            ",\n" * (array.ndim - 1), "," + "\n" * (array.ndim - 1)
        ) + "]"  # fmt: skip
    per_line = max(1, (WIDTH - indent) // (len(parts[0]) + 2)) if parts else 1
    rows = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(rows) + "]"


def tensor_repr(t: Any) -> str:
    array = backend.to_numpy(t.array)
    cut = array.size > THRESHOLD
    write = number_formatter(_summary(array) if cut else array)
    prefix = "tensor("
    if array.size:
        body = _lines(array, write, len(prefix), cut)
    else:
        body = "[]" + (f", size={tuple(array.shape)}" if array.ndim > 1 else "")
    notes = []
    if t.device.type != "cpu":
        notes.append(f"device='{t.device}'")
    usual = (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool)
    if array.dtype not in usual or (not array.size and array.dtype != dtypes.get_default_dtype()):
        notes.append(f"dtype=tinytensor.{array.dtype}")
    if t.grad_fn is not None:
        notes.append(f"grad_fn=<{t.grad_fn.name}>")
    elif t.requires_grad:
        notes.append("requires_grad=True")
    return prefix + ", ".join([body, *notes]) + ")"
