"""Rows in blocks that fit the cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ..threads import cut, get_num_threads, parallel

BLOCK_BYTES = 2**20  # of one operand: a smaller one and its temporaries would fit the L2 cache,
# but threads then call NumPy so often that they wait for each other at the interpreter's lock:
# LayerNorm of (4096, 384) on two threads took 1.8 ms in blocks of 256 KB, 1.3 in blocks of 1 MB
ALONE = 5_000_000  # bytes read and written: below, waking another thread takes longer than the work


def row_blocks(rows: int, row_bytes: int, visits: int = 10) -> list[slice]:
    """Slices of rows, about BLOCK_BYTES of one operand each, and equally many for each thread.

    visits  how often a number is read or written; an exponential takes as long as eight
    """
    return _blocks(rows, max(row_bytes, 1), visits, get_num_threads())


@lru_cache(maxsize=256)
def _blocks(rows: int, row_bytes: int, visits: int, threads: int) -> list[slice]:
    size = rows * row_bytes
    rounds = max(1, round(size / (BLOCK_BYTES * threads)))
    return cut(rows, rounds * threads if size * visits > ALONE else 1)


def by_blocks(function: Callable[..., object], *arrays: np.ndarray, visits: int = 10) -> None:
    """function(*parts) for each block of arrays of one size, flat: what is done to each number."""
    flat = [a.reshape(-1) for a in arrays]
    blocks = row_blocks(flat[0].size, flat[0].itemsize, visits)

    def block(s: slice) -> None:
        function(*[a[s] for a in flat])

    parallel(block, blocks)


def in_pieces(function: Callable[..., object], *arrays: np.ndarray) -> None:
    """function of each piece of rows that fits the cache, on this thread"""
    for s in row_blocks(len(arrays[0]), arrays[0].strides[0]):
        function(*[a[s] for a in arrays])


def plain(*arrays: np.ndarray | None) -> bool:
    """Can the kernels take them: float32 or float64, one row after the other, not empty?"""
    for a in arrays:
        if a is not None and not (
            a.dtype.kind == "f" and a.itemsize >= 4 and a.size and a.flags.c_contiguous
        ):
            return False
    return True
