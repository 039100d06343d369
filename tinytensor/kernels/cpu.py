"""CPU versions of the ops that a GPT spends its time in, in NumPy.

Memory-bound work goes block by block of rows: a block and its temporaries stay in the L2 cache,
so main memory is read and written once, whatever the number of steps. Sums over rows and columns
are matrix-vector products, which BLAS does at the speed of memory.

Overrides, never definitions: each equals its reference in ops/ within rounding, and hands over the
same saved values. Anything unusual (float64, odd shapes) goes to the reference itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import random
from ..op import Saved
from ..ops import activations, index, nn
from ..ops.linalg import as_rows
from .threads import one_blas_thread, parallel

BLOCK_BYTES = 128 * 1024  # of one operand: a few of them fit into an L2 of 1 MiB


def row_blocks(rows: int, row_bytes: int) -> list[slice]:
    """Slices of so many rows that one operand's block is about BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // max(row_bytes, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


# ------------------------------------------------------------------------------ GELU

_C = math.sqrt(2 / math.pi)
_gelu, _gelu_rule = activations.gelu.op.forward, activations.gelu.op.rules["x"].function


@activations.gelu.kernel("cpu")
def _(xp: Any, x: np.ndarray, *, approximate: str = "none") -> np.ndarray:
    if approximate != "tanh" or x.dtype == np.float16 or not x.flags.c_contiguous:
        return _gelu(xp, x, approximate=approximate)
    out = np.empty_like(x)
    flat, result = x.reshape(-1), out.reshape(-1)

    def block(s: slice) -> None:
        v, t = flat[s], result[s]
        _tanh_argument(v, t)
        np.tanh(t, t)
        t += 1
        t *= v
        t *= 0.5  # x/2 * (1 + tanh u)

    parallel(block, row_blocks(flat.size, x.itemsize))
    return out


def _tanh_argument(v: np.ndarray, u: np.ndarray) -> None:
    """u = sqrt(2/pi) * (v + 0.044715 v^3)"""
    np.multiply(v, v, u)
    u *= 0.044715 * _C
    u += _C
    u *= v


@activations.gelu.kernel("cpu", "x")
def _(xp: Any, g: np.ndarray, x: np.ndarray, approximate: str) -> np.ndarray:
    plain = x.flags.c_contiguous and g.flags.c_contiguous and x.dtype != np.float16
    if approximate != "tanh" or not plain:
        return _gelu_rule(xp, g, x, approximate)
    out = np.empty_like(x)
    flat, grad, result = x.reshape(-1), g.reshape(-1), out.reshape(-1)

    def block(s: slice) -> None:
        v, r = flat[s], result[s]
        t = np.empty_like(v)
        _tanh_argument(v, t)
        np.tanh(t, t)
        np.multiply(v, v, r)
        r *= 3 * 0.044715 * _C
        r += _C
        r *= v  # x u'
        w = t * t
        np.subtract(1, w, w)
        r *= w  # x u' (1 - t^2)
        r += t
        r += 1
        r *= 0.5
        r *= grad[s]

    parallel(block, row_blocks(flat.size, x.itemsize))
    return out


# ------------------------------------------------------------------------------ layer_norm

_layer_norm = nn._layer_norm.op.forward
_layer_norm_rule = nn._layer_norm.op.rules["x"].function


@nn._layer_norm.kernel("cpu")
def _(xp: Any, x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Any:
    if not x.flags.c_contiguous or x.size == 0 or x.dtype == np.float16:
        return _layer_norm(xp, x, weight, bias, eps=eps)
    rows = as_rows(x)
    n, width = rows.shape
    out, inv_std = np.empty_like(rows), np.empty((n, 1), x.dtype)
    mean = np.empty((n, 1), x.dtype)

    def block(s: slice) -> None:
        o = out[s]
        np.mean(rows[s], axis=1, keepdims=True, out=mean[s])
        np.subtract(rows[s], mean[s], o)
        variance = np.einsum("ij,ij->i", o, o)[:, None]
        variance /= width
        variance += eps
        np.sqrt(variance, variance)
        np.divide(1, variance, inv_std[s])
        o *= inv_std[s]
        if weight is not None:
            o *= weight
        if bias is not None:
            o += bias

    parallel(block, row_blocks(n, width * x.itemsize))
    lead = (*x.shape[:-1], 1)
    saved = Saved(mean=mean.reshape(lead), inv_std=inv_std.reshape(lead))
    return out.reshape(x.shape), saved


@nn._layer_norm.kernel("cpu", "x", "weight", "bias")
def _(xp: Any, g: Any, x: Any, weight: Any, mean: Any, inv_std: Any) -> Any:
    plain = g.flags.c_contiguous and x.flags.c_contiguous and x.dtype != np.float16
    if weight is None or not plain or x.size == 0:
        return _layer_norm_rule(xp, g, x, weight, mean, inv_std)
    g2, x2, mean, inv_std = as_rows(g), as_rows(x), mean.reshape(-1, 1), inv_std.reshape(-1, 1)
    n, width = x2.shape
    dx = np.empty_like(x2)
    average = weight / width
    blocks = row_blocks(n, width * x.itemsize)
    sums = np.empty((len(blocks), 2, width), x.dtype)  # of each block: d_weight, d_bias

    def block(numbered: tuple[int, slice]) -> None:
        i, s = numbered
        grad, d = g2[s], dx[s]
        x_hat = x2[s] - mean[s]
        x_hat *= inv_std[s]
        product = grad * x_hat
        ones = np.ones(len(grad), x.dtype)
        np.matmul(ones, product, out=sums[i, 0])
        np.matmul(ones, grad, out=sums[i, 1])
        # with g_hat = g * weight:  (g_hat - mean(g_hat) - x_hat * mean(g_hat * x_hat)) * inv_std
        np.multiply(grad, weight, d)
        d -= (grad @ average)[:, None]
        x_hat *= (product @ average)[:, None]
        d -= x_hat
        d *= inv_std[s]

    parallel(block, list(enumerate(blocks)))
    d_weight, d_bias = sums.sum(axis=0)
    return dx.reshape(x.shape), d_weight, d_bias


# ------------------------------------------------------------------------------ embedding


@index._add_rows.kernel("cpu")
def _(xp: Any, x: np.ndarray, *, index: np.ndarray, count: int) -> np.ndarray:
    """Sort by row number, then add up runs of equal ones: no scattered read-modify-write."""
    rows, flat = as_rows(x), index.reshape(-1)
    out = np.zeros((count, x.shape[-1]), x.dtype)
    if flat.size:
        order = np.argsort(flat, kind="stable")
        numbers = flat[order]
        starts = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1])))
        out[numbers[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return out


# ------------------------------------------------------------------------------ attention

_attention = nn._attention.op.forward
_attention_rule = nn._attention.op.rules["query"].function


def _plain_attention(q: Any, k: Any, v: Any, mask: Any) -> bool:
    return (
        mask is None
        and q.ndim == 4
        and q.shape[:2] == k.shape[:2] == v.shape[:2]
        and q.dtype != np.float16
        and q.size > 0
        and k.size > 0
    )


ROWS = 64  # query rows at a time: behind their last one no key need be looked at


def _tiles(q: np.ndarray, S: int, is_causal: bool) -> tuple[list, list]:
    """Work in parts, (batch, heads), and rows of queries with the number of keys they see."""
    B, H, L, _ = q.shape
    step = max(1, 2 * BLOCK_BYTES // (L * S * q.itemsize))
    parts = [(b, slice(h, h + step)) for b in range(B) for h in range(0, H, step)]
    if not is_causal:
        return parts, [(slice(0, L), S)]
    rows = [slice(i, min(i + ROWS, L)) for i in range(0, L, ROWS)]
    return parts, [(r, min(r.stop, S)) for r in rows]


def _keep(probabilities: np.ndarray, dropout_p: float, rng: Any) -> np.ndarray | None:
    """Dropout's factors, the reference's: drawn from the same key for the same shape."""
    if not dropout_p:
        return None
    return random.keep_mask(np, rng, probabilities.shape, dropout_p, probabilities.dtype)


@nn._attention.kernel("cpu")
def _(
    xp: Any, query: Any, key: Any, value: Any, mask: Any = None,
    *, is_causal: bool = False, scale: float = 1.0, dropout_p: float = 0.0, rng: Any = None,
) -> Any:  # fmt: skip
    if not _plain_attention(query, key, value, mask):
        with one_blas_thread():
            return _attention(
                xp, query, key, value, mask,
                is_causal=is_causal, scale=scale, dropout_p=dropout_p, rng=rng,
            )  # fmt: skip
    B, H, L, _ = query.shape
    S = key.shape[2]
    probabilities = np.zeros((B, H, L, S), query.dtype)
    # heads side by side in memory, (B, L, H, E), so that merging them again is free
    out = np.empty((B, L, H, value.shape[3]), query.dtype).transpose(0, 2, 1, 3)
    later = np.triu(np.full((ROWS, ROWS), -np.inf, query.dtype), 1)
    keep = _keep(probabilities, dropout_p, rng)
    parts, tiles = _tiles(query, S, is_causal)

    def part(where: tuple) -> None:
        q, k_T, P = query[where] * scale, key[where].swapaxes(1, 2), probabilities[where]
        for rows, n in tiles:
            p = np.matmul(q[:, rows], k_T[..., :n])
            if is_causal:
                own = p[..., rows.start :]  # the square on the diagonal
                own += later[: own.shape[1], : own.shape[2]]
            p -= p.max(axis=-1, keepdims=True)
            np.exp(p, p)
            np.divide(p, p.sum(axis=-1, keepdims=True), P[:, rows, :n])
        np.matmul(P if keep is None else P * keep[where], value[where], out=out[where])

    with one_blas_thread():
        parallel(part, parts)
    return out, Saved(probabilities=probabilities)


@nn._attention.kernel("cpu", "query", "key", "value", "mask")
def _(
    xp: Any, g: Any, query: Any, key: Any, value: Any, mask: Any, is_causal: bool, scale: float,
    dropout_p: float, rng: Any, probabilities: Any, needs: Any,
) -> Any:  # fmt: skip
    if not _plain_attention(query, key, value, mask):
        with one_blas_thread():
            return _attention_rule(
                xp, g, query, key, value, mask, is_causal, scale, dropout_p, rng, probabilities,
                needs,
            )  # fmt: skip
    dq, dk, dv = (
        np.empty((len(a), a.shape[2], a.shape[1], a.shape[3]), a.dtype).transpose(0, 2, 1, 3)
        for a in (query, key, value)
    )
    keep = _keep(probabilities, dropout_p, rng)
    parts, tiles = _tiles(query, key.shape[2], is_causal)

    def part(where: tuple) -> None:
        P, grad, v_T = probabilities[where], g[where], value[where].swapaxes(1, 2)
        gradient = np.zeros_like(P)  # dS; above the diagonal it stays zero
        for rows, n in tiles:  # dS = P * (dP - sum(P * dP)) * scale
            p, dS = P[:, rows, :n], np.matmul(grad[:, rows], v_T[..., :n])
            if keep is not None:
                dS *= keep[where][:, rows, :n]
            dS -= np.einsum("hij,hij->hi", p, dS)[..., None]
            dS *= scale
            np.multiply(dS, p, gradient[:, rows, :n])
            np.matmul(gradient[:, rows, :n], key[where][:, :n], out=dq[where][:, rows])
        np.matmul(gradient.swapaxes(1, 2), query[where], out=dk[where])
        dropped = P if keep is None else P * keep[where]
        np.matmul(dropped.swapaxes(1, 2), grad, out=dv[where])

    with one_blas_thread():
        parallel(part, parts)
    return dq, dk, dv, None
