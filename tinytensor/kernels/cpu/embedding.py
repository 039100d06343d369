"""The gradient of a table that rows were taken from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops import index
from ...ops.elementwise import narrowed
from ...ops.linalg import as_rows


@index._add_rows.kernel("cpu")
def _(
    xp: Any, x: np.ndarray, *, index: np.ndarray, count: int, dtype: Any = None
) -> np.ndarray:
    """Sort by row number, then add up runs of equal ones: no scattered read-modify-write."""
    x = narrowed(x, dtype or x.dtype)
    rows, flat = as_rows(x), index.reshape(-1)
    out = np.zeros((count, x.shape[-1]), x.dtype)
    if flat.size:
        order = np.argsort(flat, kind="stable")
        numbers = flat[order]
        starts = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1])))
        out[numbers[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return out
