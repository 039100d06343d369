"""Sums over the rows of a matrix, in two steps: groups of rows, then what these gave."""

from __future__ import annotations

from typing import Any

from ... import backend
from .launch import kernel

THREADS = 32, 16
BLOCKS = 528  # four for each of an H100's 132 multiprocessors; so few rows are added in one step


def column_sums(x: Any) -> Any:
    """The sum of the rows of x, (rows, C) in float32 or less and contiguous: (C,) in float32."""
    rows, C = x.shape
    across = -(-C // (32 * 16 // x.itemsize))
    groups = 1
    if rows > BLOCKS:
        groups = min(max(1, BLOCKS // across), -(-rows // (4 * THREADS[1])))
    sums = backend.cupy().empty((groups, C), "float32")
    kernel("columns", "column_sums")((across, groups), THREADS, sums, x, rows, C)
    return sums[0] if groups == 1 else column_sums(sums)
