"""The gradient of a table that rows were taken from.

Sorted by row number, what belongs to one row of the table stands together: a run. Runs of one are
copied, longer ones added up, each by one thread and in the order of the tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops import index
from ...ops.elementwise import narrowed
from ...ops.linalg import as_rows
from ..threads import parallel
from .blocks import by_blocks, row_blocks


@index._add_rows.kernel("cpu")
def _(
    xp: Any, x: np.ndarray, *, index: np.ndarray, count: int, dtype: Any = None
) -> np.ndarray:
    x = narrowed(x, dtype or x.dtype)
    rows, flat = as_rows(x), index.reshape(-1)
    out = np.empty((count, x.shape[-1]), x.dtype)
    if out.size:
        by_blocks(lambda part: part.fill(0), out, visits=1)
    if not flat.size:
        return out
    order = np.argsort(flat, kind="stable")
    numbers = flat[order]
    edges = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1], [True])))
    starts, lengths = edges[:-1], np.diff(edges)
    single, longer = starts[lengths == 1], lengths > 1
    out[numbers[single]] = rows[order[single]]
    if not longer.any():
        return out
    runs = np.take(rows, order[np.repeat(longer, lengths)], axis=0)  # one after the other
    targets = numbers[starts[longer]].tolist()
    ends = [0, *np.cumsum(lengths[longer]).tolist()]

    def add_up(some: slice) -> None:
        for i in range(len(targets))[some]:
            np.add.reduce(runs[ends[i] : ends[i + 1]], axis=0, out=out[targets[i]])

    parallel(add_up, row_blocks(len(targets), runs.nbytes // len(targets), 1))
    return out
