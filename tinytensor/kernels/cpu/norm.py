"""LayerNorm and RMSNorm, alone or of a sum with the residual stream, a block of rows at a time.

Means over a row are matrix-vector products: BLAS sums a row four times as fast as np.mean.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ...op import Saved
from ...ops import fused, nn
from ...ops.linalg import as_rows
from ..threads import parallel
from .blocks import plain, row_blocks

_layer_norm = nn._layer_norm.op.forward
_layer_norm_rule = nn._layer_norm.op.rules["x"].function
_add_layer_norm = fused._add_layer_norm.op.forward
_add_layer_norm_rule = fused._add_layer_norm.op.rules["x"].function
_rms_norm = nn._rms_norm.op.forward
_rms_norm_rule = nn._rms_norm.op.rules["x"].function
_add_rms_norm = fused._add_rms_norm.op.forward
_add_rms_norm_rule = fused._add_rms_norm.op.rules["x"].function


def _rows(*arrays: Any) -> list:
    return [None if a is None else as_rows(a) for a in arrays]


def _blocks(rows: np.ndarray) -> list[slice]:
    return row_blocks(len(rows), rows.shape[1] * rows.itemsize)


def _inverse_root(squares: np.ndarray, width: int, eps: float) -> None:
    """squares = 1 / sqrt(squares / width + eps), in place"""
    squares += width * eps
    np.sqrt(squares, squares)
    np.divide(math.sqrt(width), squares, squares)


# ------------------------------------------------------------------------------ LayerNorm


@nn._layer_norm.kernel("cpu")
def _(xp: Any, x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Any:
    if not plain(x, weight, bias):
        return _layer_norm(xp, x, weight, bias, eps=eps)
    out, _, mean, inv_std = layer_norm(x, None, weight, bias, eps)
    return out, Saved(mean=mean, inv_std=inv_std)


@nn._layer_norm.kernel("cpu", "x", "weight", "bias")
def _(xp: Any, g: Any, x: Any, weight: Any, mean: Any, inv_std: Any) -> Any:
    if weight is None or not plain(g, x, weight):
        return _layer_norm_rule(xp, g, x, weight, mean, inv_std)
    return _backward(g, None, x, weight, mean, inv_std)


@fused._add_layer_norm.kernel("cpu")
def _(
    xp: Any, x: Any, residual: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5
) -> Any:
    if not plain(x, residual, weight, bias):
        return _add_layer_norm(xp, x, residual, weight, bias, eps=eps)
    out, total, mean, inv_std = layer_norm(x, residual, weight, bias, eps)
    return out, total, Saved(mean=mean, inv_std=inv_std)


@fused._add_layer_norm.kernel("cpu", "x", "residual", "weight", "bias")
def _(xp: Any, g: Any, out: Any, weight: Any, mean: Any, inv_std: Any) -> Any:
    g_out, g_total = g
    if weight is None or not plain(g_out, g_total, out[1], weight):
        return _add_layer_norm_rule(xp, g, out, weight, mean, inv_std)
    dx, d_weight, d_bias = _backward(g_out, g_total, out[1], weight, mean, inv_std)
    return dx, dx, d_weight, d_bias


@lru_cache(maxsize=16)
def _share(width: int, dtype: Any) -> np.ndarray:
    """(width, 1): a row times this is its mean."""
    return np.full((width, 1), 1 / width, dtype)


def standardize(x: Any, x_hat: Any, inv_std: Any, eps: float, mean: Any = None) -> None:
    """x_hat = (x - mean) * inv_std of rows, inv_std = 1 / sqrt(var + eps)"""
    mean = np.matmul(x, _share(x.shape[1], x.dtype), out=mean)
    np.subtract(x, mean, x_hat)
    np.vecdot(x_hat, x_hat, out=inv_std[:, 0])
    _inverse_root(inv_std, x.shape[1], eps)
    x_hat *= inv_std


def layer_norm(x: Any, residual: Any, weight: Any, bias: Any, eps: float) -> tuple:
    """out, total = x + residual (x itself if there is none), and total's mean and 1 / std"""
    if x.size == x.shape[-1]:
        return _layer_norm_of_one(x, residual, weight, bias, eps)
    rows, other = _rows(x, residual)
    n, width = rows.shape
    out = np.empty_like(rows)
    total = rows if residual is None else np.empty_like(rows)
    mean, inv_std = np.empty((2, n, 1), x.dtype)

    def block(s: slice) -> None:
        t, o = total[s], out[s]
        if other is not None:
            np.add(rows[s], other[s], t)
        standardize(t, o, inv_std[s], eps, mean[s])
        if weight is not None:
            o *= weight
        if bias is not None:
            o += bias

    parallel(block, _blocks(rows))
    lead = (*x.shape[:-1], 1)
    return out.reshape(x.shape), total.reshape(x.shape), mean.reshape(lead), inv_std.reshape(lead)


def _layer_norm_of_one(x: Any, residual: Any, weight: Any, bias: Any, eps: float) -> tuple:
    """The same of a single row, whose time is that of NumPy's calls: a token that is written."""
    total = x if residual is None else x + residual
    row, width = total.reshape(-1), x.shape[-1]
    mean = row.dot(_share(width, x.dtype)[:, 0])
    centered = row - mean
    inv = 1 / math.sqrt(centered.dot(centered) / width + eps)
    centered *= inv
    if weight is not None:
        centered *= weight
    if bias is not None:
        centered += bias
    shape = (*x.shape[:-1], 1)
    return centered.reshape(x.shape), total, mean.reshape(shape), np.full(shape, inv, x.dtype)


def _backward(g: Any, g_total: Any, x: Any, weight: Any, mean: Any, inv_std: Any) -> tuple:
    """dx, with g_total added if there is one, d_weight and d_bias"""
    grad, rows, straight = _rows(g, x, g_total)
    mean, inv_std = mean.reshape(-1, 1), inv_std.reshape(-1, 1)
    n, width = rows.shape
    dx = np.empty_like(rows)
    average = weight / width
    blocks = _blocks(rows)
    sums = np.empty((len(blocks), 2, width), x.dtype)  # of each block: d_weight, d_bias
    ones = np.ones(n, x.dtype)

    def block(numbered: tuple[int, slice]) -> None:
        i, s = numbered
        own, d, inv = grad[s], dx[s], inv_std[s]
        centered = rows[s] - mean[s]
        product = np.multiply(own, centered)
        np.matmul(inv[:, 0], product, out=sums[i, 0])
        np.matmul(ones[: len(own)], own, out=sums[i, 1])
        # with g_hat = g * weight:  (g_hat - mean(g_hat) - x_hat * mean(g_hat * x_hat)) * inv_std
        np.multiply(own, weight, d)
        d -= (own @ average)[:, None]
        centered *= (product @ average)[:, None] * (inv * inv)
        d -= centered
        d *= inv
        if straight is not None:
            d += straight[s]

    parallel(block, list(enumerate(blocks)))
    d_weight, d_bias = sums.sum(axis=0)
    return dx.reshape(x.shape), d_weight, d_bias


# ------------------------------------------------------------------------------ RMSNorm


@nn._rms_norm.kernel("cpu")
def _(xp: Any, x: Any, weight: Any = None, *, eps: float = 1e-6) -> Any:
    if not plain(x, weight):
        return _rms_norm(xp, x, weight, eps=eps)
    out, _, inv_rms = _rms_forward(x, None, weight, eps)
    return out, Saved(inv_rms=inv_rms)


@nn._rms_norm.kernel("cpu", "x", "weight")
def _(xp: Any, g: Any, x: Any, weight: Any, inv_rms: Any) -> Any:
    if weight is None or not plain(g, x, weight):
        return _rms_norm_rule(xp, g, x, weight, inv_rms)
    return _rms_backward(g, None, x, weight, inv_rms)


@fused._add_rms_norm.kernel("cpu")
def _(xp: Any, x: Any, residual: Any, weight: Any = None, *, eps: float = 1e-6) -> Any:
    if not plain(x, residual, weight):
        return _add_rms_norm(xp, x, residual, weight, eps=eps)
    out, total, inv_rms = _rms_forward(x, residual, weight, eps)
    return out, total, Saved(inv_rms=inv_rms)


@fused._add_rms_norm.kernel("cpu", "x", "residual", "weight")
def _(xp: Any, g: Any, out: Any, weight: Any, inv_rms: Any) -> Any:
    g_out, g_total = g
    if weight is None or not plain(g_out, g_total, out[1], weight):
        return _add_rms_norm_rule(xp, g, out, weight, inv_rms)
    dx, d_weight = _rms_backward(g_out, g_total, out[1], weight, inv_rms)
    return dx, dx, d_weight


def _rms_forward(x: Any, residual: Any, weight: Any, eps: float) -> tuple:
    """out, total = x + residual (x itself if there is none), and 1 / total's root mean square"""
    rows, other = _rows(x, residual)
    n, width = rows.shape
    out = np.empty_like(rows)
    total = rows if residual is None else np.empty_like(rows)
    inv_rms = np.empty((n, 1), x.dtype)

    def block(s: slice) -> None:
        t, o, inv = total[s], out[s], inv_rms[s]
        if other is not None:
            np.add(rows[s], other[s], t)
        np.vecdot(t, t, out=inv[:, 0])
        _inverse_root(inv, width, eps)
        np.multiply(t, inv, o)
        if weight is not None:
            o *= weight

    parallel(block, _blocks(rows))
    lead = (*x.shape[:-1], 1)
    return out.reshape(x.shape), total.reshape(x.shape), inv_rms.reshape(lead)


def _rms_backward(g: Any, g_total: Any, x: Any, weight: Any, inv_rms: Any) -> tuple:
    """dx, with g_total added if there is one, and d_weight"""
    grad, rows, straight = _rows(g, x, g_total)
    inv_rms, width = inv_rms.reshape(-1, 1), rows.shape[1]
    dx = np.empty_like(rows)
    average = weight / width
    blocks = _blocks(rows)
    sums = np.empty((len(blocks), width), x.dtype)

    def block(numbered: tuple[int, slice]) -> None:
        i, s = numbered
        own, inv, d = grad[s], inv_rms[s], dx[s]
        product = np.multiply(own, rows[s])
        np.matmul(inv[:, 0], product, out=sums[i])
        shift = (product @ average)[:, None] * (inv * inv)
        # with g_hat = g * weight:  (g_hat - x_hat * mean(g_hat * x_hat)) * inv_rms
        np.multiply(own, weight, d)
        np.multiply(rows[s], shift, product)
        d -= product
        d *= inv
        if straight is not None:
            d += straight[s]

    parallel(block, list(enumerate(blocks)))
    return dx.reshape(x.shape), sums.sum(axis=0)
