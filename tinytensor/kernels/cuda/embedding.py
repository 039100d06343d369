"""Rows of a table, and the deterministic gradient of a table that rows were taken from:
embedding.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops import index as ops
from ...ops.elementwise import narrowed
from ...ops.linalg import as_rows
from .launch import STORAGE, kernel

TILE = 512  # places that a warp sorts
PIECE = 32  # sorted places that a block sums, as in embedding.cu
MOST = 2**31 - 1  # places

_take = ops._embedding.op
_add = ops._add_rows.op
_put = ops._put_zeros.op


def _numbers(xp: Any, index: Any) -> Any:
    return xp.ascontiguousarray(index.reshape(-1).astype(np.int64, copy=False))


def _columns(width: int) -> int:
    """Threads for a row, 8 numbers each."""
    return min(256, max(32, -(-width // 256) * 32))


@ops._embedding.kernel("cuda")
def _(
    xp: Any, weight: Any, *, index: Any, padding_idx: int | None = None, dtype: Any = None
) -> Any:
    dtype = np.dtype(dtype or weight.dtype)
    if (
        not {weight.dtype.name, dtype.name} <= set(STORAGE) or not index.size or not weight.size
        or weight.dtype not in (dtype, np.float32)
    ):  # fmt: skip
        return _take.forward(xp, weight, index=index, padding_idx=padding_idx, dtype=dtype)
    return take_rows(xp, weight, index, dtype)


@ops._embedding.kernel("cuda", "weight")
def _(
    xp: Any, g: Any, weight_shape: tuple, weight_dtype: Any, index: Any, padding_idx: int | None
) -> Any:
    if g.dtype.name not in STORAGE or index.size > MOST:
        return _take.rules["weight"].function(xp, g, weight_shape, weight_dtype, index, padding_idx)
    skip = -1 if padding_idx is None else padding_idx
    return narrowed(add_rows(xp, as_rows(g), index, weight_shape[0], skip), weight_dtype)


def take_rows(xp: Any, table: Any, index: Any, dtype: Any) -> Any:
    """table[index] in dtype: that of the table, or of half precision for one of float32; a row that
    there is not is NaN."""
    rows, width = table.shape
    out = xp.empty((*index.shape, width), dtype)
    x = _columns(width)
    y = 256 // x
    name = "take_rows" if table.dtype == out.dtype else "take_float_rows"
    kernel("embedding", name)(
        (-(-index.size // y),), (x, y),
        out, xp.ascontiguousarray(table), _numbers(xp, index), index.size, rows, width,
    )  # fmt: skip
    return out


def add_rows(xp: Any, x: Any, index: Any, count: int, skip: int = -1) -> Any:
    """out[r] = sum of x[i] over the i with index[i] = r, in float32 and in the order of i; nothing
    for r = skip, nor for an r that there is not."""
    n, width = x.shape
    out = xp.zeros((count, width), np.float32)
    if not x.size or not count:
        return out
    index = _numbers(xp, index)
    table = index, n, count, skip
    order: Any = None
    spare = xp.empty((2, n), np.int32)
    tiles = -(-n // TILE)
    counts = xp.empty(256 * tiles, np.uint32)
    for shift in range(0, int(count).bit_length(), 8):
        made = spare[shift // 8 % 2]
        kernel("embedding", "sort_count")((tiles,), (32,), counts, order, *table, shift, TILE)
        kernel("embedding", "sort_scan")((1,), (min(1024, 256 * tiles),), counts, counts.size)
        kernel("embedding", "sort_place")((tiles,), (32,), made, order, counts, *table, shift, TILE)
        order = made
    pieces = -(-n // PIECE)
    ends = xp.empty((pieces, 2, width), np.float32)
    kernel("embedding", "sum_pieces")(
        (pieces,), (_columns(width),), out, ends, xp.ascontiguousarray(x), order, *table, width
    )
    if pieces > 1:
        kernel("embedding", "sum_ends")((pieces,), (256,), out, ends, order, *table, width)
    return out


@ops._add_rows.kernel("cuda")
def _(xp: Any, x: Any, *, index: Any, count: int, dtype: Any = None) -> Any:
    if x.dtype.name not in STORAGE or index.size > MOST:
        return _add.forward(xp, x, index=index, count=count, dtype=dtype)
    return narrowed(add_rows(xp, as_rows(x), index, count), dtype or x.dtype)


@ops._put_zeros.kernel("cuda")
def _(xp: Any, x: Any, *, index: Any, shape: tuple) -> Any:
    """The gradient of x[index] for one array of row numbers."""
    parts = index if isinstance(index, tuple) else (index,)
    rows: Any = parts[0] if parts and all(p is Ellipsis for p in parts[1:]) else None
    if (
        getattr(rows, "dtype", np.dtype(bool)).kind not in "iu" or x.dtype.name not in STORAGE
        or not 0 < rows.size <= MOST or not x.size
    ):  # fmt: skip
        return _put.forward(xp, x, index=index, shape=shape)
    flat = x.reshape(rows.size, -1)
    rows = xp.where(rows < 0, rows + shape[0], rows)  # counted from the end
    return narrowed(add_rows(xp, flat, rows, shape[0]), x.dtype).reshape(shape)
