"""LayerNorm and RMSNorm, also of a sum: x in any storage type, statistics in float32.

A row is read once and written once. The gradients of weight and bias are sums over all rows: each
block adds up its own, a second kernel the blocks.
"""

from __future__ import annotations

import math
from typing import Any

from ...op import Saved
from ...ops import fused, nn
from .columns import column_sums
from .launch import STORAGE, kernel

KEPT_FORWARD, KEPT_BACKWARD = 24, 16  # numbers of a row that a thread keeps: norm.cu's
WIDEST = 512 * KEPT_BACKWARD  # row, in numbers
BLOCKS = 264  # of backward: as many as fit an H100 at a time; each sums the rows it has

_layer_norm = nn._layer_norm.op.forward
_layer_norm_rule = nn._layer_norm.op.rules["x"].function
_rms_norm = nn._rms_norm.op.forward
_rms_norm_rule = nn._rms_norm.op.rules["x"].function
_add_layer_norm = fused._add_layer_norm.op.forward
_add_layer_norm_rule = fused._add_layer_norm.op.rules["x"].function


# ------------------------------------------------------------------------------ the overrides


@nn._layer_norm.kernel("cuda")
def _(xp: Any, x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Any:
    if not served(x):
        return _layer_norm(xp, x, weight, bias, eps=eps)
    out, _, mean, inv_std = forward(xp, x, None, weight, bias, eps)
    return out, Saved(mean=mean, inv_std=inv_std)


@nn._layer_norm.kernel("cuda", "x", "weight", "bias")
def _(xp: Any, g: Any, x: Any, weight: Any, mean: Any, inv_std: Any, needs: tuple) -> Any:
    if not served(x):
        return _layer_norm_rule(xp, g, x, weight, mean, inv_std)
    return backward(xp, g, None, x, weight, mean, inv_std, needs)


@fused._add_layer_norm.kernel("cuda")
def _(
    xp: Any, x: Any, residual: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5
) -> Any:
    if not served(x):
        return _add_layer_norm(xp, x, residual, weight, bias, eps=eps)
    out, total, mean, inv_std = forward(xp, x, residual, weight, bias, eps)
    return out, total, Saved(mean=mean, inv_std=inv_std)


@fused._add_layer_norm.kernel("cuda", "x", "residual", "weight", "bias")
def _(xp: Any, g: Any, out: Any, weight: Any, mean: Any, inv_std: Any, needs: tuple) -> Any:
    (g_out, g_total), total = g, out[1]
    if not served(total):
        return _add_layer_norm_rule(xp, g, out, weight, mean, inv_std)
    dx, *others = backward(xp, g_out, g_total, total, weight, mean, inv_std, needs[1:])
    return dx, dx, *others


@nn._rms_norm.kernel("cuda")
def _(xp: Any, x: Any, weight: Any = None, *, eps: float = 1e-6) -> Any:
    if not served(x):
        return _rms_norm(xp, x, weight, eps=eps)
    out, _, _, inv_rms = forward(xp, x, None, weight, None, eps, centered=False)
    return out, Saved(inv_rms=inv_rms)


@nn._rms_norm.kernel("cuda", "x", "weight")
def _(xp: Any, g: Any, x: Any, weight: Any, inv_rms: Any, needs: tuple) -> Any:
    if not served(x):
        return _rms_norm_rule(xp, g, x, weight, inv_rms)
    return backward(xp, g, None, x, weight, None, inv_rms, needs)[:2]


# ------------------------------------------------------------------------------ the launches


def served(x: Any) -> bool:
    """Can the kernels take x: not float64, not empty, no row too wide for a block's registers?"""
    return x.dtype.name in STORAGE and 0 < x.size and x.shape[-1] <= WIDEST


def forward(
    xp: Any, x: Any, residual: Any, weight: Any, bias: Any, eps: float, centered: bool = True
) -> tuple:
    """out, total = x + residual (None without residual), and total's mean (or None) and 1 / std"""
    rows, C, block = _cut(x, KEPT_FORWARD)
    lead = (*x.shape[:-1], 1)
    x, residual = _contiguous(xp, x), _contiguous(xp, residual)
    out, total = xp.empty_like(x), None if residual is None else xp.empty_like(x)
    mean, inv_std = xp.empty(lead, "float32") if centered else None, xp.empty(lead, "float32")
    kernel("norm", "norm_forward")(
        (-(-rows // block[1]),), block, out, total, mean, inv_std, x, residual,
        _vector(xp, weight), _vector(xp, bias), rows, C, eps,
    )  # fmt: skip
    return out, total, mean, inv_std


def backward(
    xp: Any, g: Any, g_total: Any, x: Any, weight: Any, mean: Any, inv_std: Any, needs: tuple
) -> tuple:
    """dx, d_weight, d_bias; the last two None where `needs`, of the three, has none of them"""
    rows, C, block = _cut(x, KEPT_BACKWARD)
    g, g_total, x = _contiguous(xp, g), _contiguous(xp, g_total), _contiguous(xp, x)
    dx = xp.empty_like(x)
    blocks = min(-(-rows // block[1]), BLOCKS)
    sums = xp.empty((blocks, 2 * C), "float32") if any(needs[1:]) else None
    kernel("norm", "norm_backward")(
        (blocks,), block, dx, sums, g, g_total, x, _vector(xp, weight), mean, inv_std, rows, C,
        shared=0 if sums is None else 8 * C * block[1],
    )  # fmt: skip
    if sums is None:
        return dx, None, None
    d_weight, d_bias = column_sums(sums).reshape(2, C)
    if weight is not None and weight.dtype != d_weight.dtype:
        d_weight, d_bias = d_weight.astype(weight.dtype), d_bias.astype(weight.dtype)
    return dx, d_weight, d_bias


def _cut(x: Any, kept: int) -> tuple[int, int, tuple[int, int]]:
    """Rows, their length, and the block: the threads of one row, and rows side by side."""
    C = x.shape[-1]
    threads = 32 * -(-C // (32 * kept))
    return math.prod(x.shape[:-1]), C, (threads, max(1, 256 // threads))


def _contiguous(xp: Any, a: Any) -> Any:
    return None if a is None else xp.ascontiguousarray(a)


def _vector(xp: Any, a: Any) -> Any:
    """A weight or bias as the kernels take it; in float32 it costs nothing."""
    return None if a is None else xp.ascontiguousarray(a, "float32")
