"""Sums of large arrays, on all threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops import elementwise
from .blocks import by_blocks, plain

LARGE = 1 << 16  # elements; below, looking at the arrays costs more than it saves

_add = elementwise.add.op.forward


@elementwise.add.kernel("cpu")
def _(xp: Any, x: Any, y: Any, *, alpha: Any = 1) -> Any:
    same = type(x) is type(y) is np.ndarray and x.shape == y.shape and x.size >= LARGE
    if alpha != 1 or not same or not plain(x, y):
        return _add(xp, x, y, alpha=alpha)
    out = np.empty_like(x)
    by_blocks(np.add, x, y, out, visits=3)
    return out
