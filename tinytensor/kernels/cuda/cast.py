"""Casts between float32 and half precision, and copies of transposed arrays: cast.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops import elementwise
from .launch import STORAGE, kernel

MOST = 65535  # blocks in the grid's y and z


def cast(xp: Any, x: Any, dtype: Any) -> Any:
    """x in another dtype: new memory, with the dims in the order they have in x's."""
    dtype = np.dtype(dtype)
    names = {x.dtype.name, dtype.name}
    if len(names) < 2 or "float32" not in names or not names <= set(STORAGE):
        return x.astype(dtype)
    order = sorted(range(x.ndim), key=lambda d: -x.strides[d])
    under = x.transpose(order) if x.ndim > 1 else x
    if not under.flags.c_contiguous:
        return x.astype(dtype)
    out = xp.empty(under.shape, dtype)
    name = "narrow" if x.dtype.name == "float32" else "widen"
    kernel("cast", name)((-(-x.size // 2048),), (256,), out, under, x.size)
    return out.transpose(sorted(range(x.ndim), key=order.__getitem__)) if x.ndim > 1 else out


@elementwise.cast.kernel("cuda")
def _(xp: Any, x: Any, *, dtype: Any) -> Any:
    return cast(xp, x, dtype)


@elementwise.cast.kernel("cuda", "x")
def _(xp: Any, g: Any, x_dtype: Any) -> Any:
    return g if g.dtype == x_dtype else cast(xp, g, x_dtype)


def transposed(xp: Any, x: Any) -> Any:
    """A copy of x (..., rows, columns) with the last two dims swapped; x is contiguous."""
    rows, columns = x.shape[-2:]
    out = xp.empty((*x.shape[:-2], columns, rows), x.dtype)
    down, batch = -(-rows // 32), x.size // (rows * columns) if x.size else 0
    grid = (-(-columns // 32), down, min(batch, MOST))
    kernel("cast", "transpose")(grid, (32, 8), out, x, rows, columns, batch)
    return out


@elementwise.clone.kernel("cuda")
def _(xp: Any, x: Any) -> Any:
    if x.dtype.name in STORAGE and x.ndim > 1 and not x.flags.c_contiguous:
        under = xp.swapaxes(x, -1, -2)
        if under.flags.c_contiguous and under.shape[-2] <= 32 * MOST:
            return transposed(xp, under)
    return x.copy()
