"""Rows in blocks that fit the cache."""

from __future__ import annotations

import numpy as np

BLOCK_BYTES = 128 * 1024  # of one operand: a few of them fit into an L2 of 512 KiB


def row_blocks(rows: int, row_bytes: int) -> list[slice]:
    """Slices of so many rows that one operand's block is about BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // max(row_bytes, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def plain(*arrays: np.ndarray | None) -> bool:
    """Can the kernels take them: float32 or float64, one row after the other, not empty?"""
    return all(
        a is None or (a.dtype.kind == "f" and a.itemsize >= 4 and a.size and a.flags.c_contiguous)
        for a in arrays
    )
