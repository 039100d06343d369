"""LayerNorm and RMSNorm, a block of rows at a time.

Means over a row are matrix-vector products: BLAS sums a row four times as fast as np.mean.
"""

from __future__ import annotations

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


@nn._layer_norm.kernel("cpu")
def _(xp: Any, x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Any:
    if not plain(x, weight, bias):
        return _layer_norm(xp, x, weight, bias, eps=eps)
    out, _, mean, inv_std = _forward(x, None, weight, bias, eps)
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
    out, total, mean, inv_std = _forward(x, residual, weight, bias, eps)
    return out, total, Saved(mean=mean, inv_std=inv_std)


@fused._add_layer_norm.kernel("cpu", "x", "residual", "weight", "bias")
def _(xp: Any, g: Any, out: Any, weight: Any, mean: Any, inv_std: Any) -> Any:
    g_out, g_total = g
    if weight is None or not plain(g_out, g_total, out[1], weight):
        return _add_layer_norm_rule(xp, g, out, weight, mean, inv_std)
    dx, d_weight, d_bias = _backward(g_out, g_total, out[1], weight, mean, inv_std)
    return dx, dx, d_weight, d_bias


def _forward(x: Any, residual: Any, weight: Any, bias: Any, eps: float) -> tuple:
    """out, total = x + residual (x itself if there is none), and total's mean and 1 / std"""
    rows, n, width = as_rows(x), x.size // x.shape[-1], x.shape[-1]
    out = np.empty_like(rows)
    total = rows if residual is None else np.empty_like(rows)
    mean, inv_std = np.empty((2, n, 1), x.dtype)
    share = np.full((width, 1), 1 / width, x.dtype)

    def block(s: slice) -> None:
        t, o, inv = total[s], out[s], inv_std[s]
        if residual is not None:
            np.add(rows[s], as_rows(residual)[s], t)
        np.matmul(t, share, out=mean[s])
        np.subtract(t, mean[s], o)
        np.vecdot(o, o, out=inv[:, 0])
        inv /= width
        inv += eps
        np.sqrt(inv, inv)
        np.divide(1, inv, inv)
        o *= inv
        if weight is not None:
            o *= weight
        if bias is not None:
            o += bias

    parallel(block, row_blocks(n, width * x.itemsize))
    lead = (*x.shape[:-1], 1)
    return out.reshape(x.shape), total.reshape(x.shape), mean.reshape(lead), inv_std.reshape(lead)


def _backward(g: Any, g_total: Any, x: Any, weight: Any, mean: Any, inv_std: Any) -> tuple:
    """dx, with g_total added if there is one, d_weight and d_bias"""
    grad, rows, mean, inv_std = as_rows(g), as_rows(x), mean.reshape(-1, 1), inv_std.reshape(-1, 1)
    n, width = rows.shape
    dx = np.empty_like(rows)
    average = weight / width
    blocks = row_blocks(n, width * x.itemsize)
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
        if g_total is not None:
            d += as_rows(g_total)[s]

    parallel(block, list(enumerate(blocks)))
    d_weight, d_bias = sums.sum(axis=0)
    return dx.reshape(x.shape), d_weight, d_bias


_rms_norm = nn._rms_norm.op.forward
_rms_norm_rule = nn._rms_norm.op.rules["x"].function


@nn._rms_norm.kernel("cpu")
def _(xp: Any, x: Any, weight: Any = None, *, eps: float = 1e-6) -> Any:
    if not plain(x, weight):
        return _rms_norm(xp, x, weight, eps=eps)
    rows = as_rows(x)
    n, width = rows.shape
    out, inv_rms = np.empty_like(rows), np.empty((n, 1), x.dtype)

    def block(s: slice) -> None:
        square = np.vecdot(rows[s], rows[s])[:, None]
        square /= width
        square += eps
        np.sqrt(square, square)
        np.divide(1, square, inv_rms[s])
        np.multiply(rows[s], inv_rms[s], out[s])
        if weight is not None:
            out[s] *= weight

    parallel(block, row_blocks(n, width * x.itemsize))
    return out.reshape(x.shape), Saved(inv_rms=inv_rms.reshape((*x.shape[:-1], 1)))


@nn._rms_norm.kernel("cpu", "x", "weight")
def _(xp: Any, g: Any, x: Any, weight: Any, inv_rms: Any) -> Any:
    if weight is None or not plain(g, x, weight):
        return _rms_norm_rule(xp, g, x, weight, inv_rms)
    g2, x2, inv_rms = as_rows(g), as_rows(x), inv_rms.reshape(-1, 1)
    n, width = x2.shape
    dx = np.empty_like(x2)
    average = weight / width
    blocks = row_blocks(n, width * x.itemsize)
    sums = np.empty((len(blocks), width), x.dtype)

    def block(numbered: tuple[int, slice]) -> None:
        i, s = numbered
        inv, d = inv_rms[s], dx[s]
        product = np.multiply(g2[s], x2[s])
        np.matmul(inv[:, 0], product, out=sums[i])
        shift = (product @ average)[:, None] * (inv * inv)
        # with g_hat = g * weight:  (g_hat - x_hat * mean(g_hat * x_hat)) * inv_rms
        np.multiply(g2[s], weight, d)
        np.multiply(x2[s], shift, product)
        d -= product
        d *= inv

    parallel(block, list(enumerate(blocks)))
    return dx.reshape(x.shape), sums.sum(axis=0)
