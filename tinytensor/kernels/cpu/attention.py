"""Attention in tiles: a few heads and 64 query rows at a time, and no key that they do not see.

A tile's scores stay in the cache from the product that makes them to the one that uses them. They
are kept, tile by tile, only where all are less than query, key and value; else backward makes them
again.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np

from ... import random
from ...op import Saved
from ...ops import fused, nn
from ..threads import cut, get_num_threads, one_blas_thread, parallel
from .blocks import plain

ROWS = 64  # query rows of a tile
TILE_BYTES = 2**19  # of the scores of a tile, all its heads together
LONG = 500_000  # numbers of keys: above, one token's look at them is worth a second thread
SAFE = 60.0  # scores within +-60 need no shift: e^60, summed over a long context, is finite

_attention = nn._attention.op.forward
_attention_rule = nn._attention.op.rules["query"].function


def _plain(q: Any, k: Any, v: Any, mask: Any) -> bool:
    return (
        mask is None
        and q.ndim == 4
        and q.shape[:2] == k.shape[:2] == v.shape[:2]
        and q.dtype != np.float16
        and q.size > 0
        and k.size > 0
        and v.size > 0
    )


@lru_cache(maxsize=64)
def _cut(
    B: int, H: int, L: int, S: int, itemsize: int, is_causal: bool, threads: int
) -> tuple[list, list]:
    """Parts (sequences, heads) for the threads, and the tiles of each: (rows, keys they see).

    A part is some heads of one sequence, or all of several: short sequences go together, since
    threads that call NumPy for little work wait for each other.
    """
    room = max(1, TILE_BYTES // (min(L, ROWS) * S * itemsize))  # heads
    sequences = cut(B, -(-B // max(1, min(room // H, -(-B // threads)))))
    heads = cut(H, -(-H // room))
    rows = [slice(i, min(i + ROWS, L)) for i in range(0, L, ROWS)]
    return (
        [(b, h) for b in sequences for h in heads],
        [(r, min(r.stop, S) if is_causal else S) for r in rows],
    )


@cache
def _seen(dtype: Any) -> np.ndarray:
    """Of the square on the diagonal: 1 where a query sees a key, else 0."""
    return np.tril(np.ones((ROWS, ROWS), dtype))


class _Work:
    """One call cut up."""

    def __init__(self, q: Any, S: int, is_causal: bool, dropout_p: float, rng: Any):
        B, H, L, _ = q.shape
        self.shape, self.is_causal, self.dropout_p, self.rng = (H, L, S), is_causal, dropout_p, rng
        self.parts, self.tiles = _cut(B, H, L, S, q.itemsize, is_causal, get_num_threads())
        self.seen = _seen(q.dtype)

    def hide(self, p: np.ndarray, rows: slice) -> None:
        """Zero the probabilities of keys behind their query."""
        if self.is_causal and rows.start < p.shape[-1]:
            square = p[..., rows.start :]
            square *= self.seen[: square.shape[-2], : square.shape[-1]]

    def without_hidden(self, scores: np.ndarray, rows: slice) -> np.ndarray:
        """-inf in place of scores of keys behind their query, were they even infinite or NaN."""
        if not self.is_causal:
            return scores
        behind = np.arange(scores.shape[-1]) > np.arange(rows.start, rows.stop)[:, None]
        return np.where(behind, -np.inf, scores)

    def room(self, q: np.ndarray) -> list[np.ndarray] | None:
        """An empty array for each tile of all heads, where these are smaller than q, k and v."""
        H, L, S = self.shape
        if sum((r.stop - r.start) * n for r, n in self.tiles) > 3 * L * q.shape[3]:
            return None
        return [np.empty((len(q), H, r.stop - r.start, n), q.dtype) for r, n in self.tiles]

    def keep(self, part: tuple, dtype: Any) -> np.ndarray | None:
        """Dropout's factors of one part: the reference's, drawn from their place."""
        if not self.dropout_p:
            return None
        sequences, heads = part
        H, L, S = self.shape
        size = (sequences.stop - sequences.start, heads.stop - heads.start, L, S)
        start = (sequences.start * H + heads.start) * L * S
        return random.keep_mask(np, self.rng, size, self.dropout_p, dtype, start)


def _side_by_side(shape: tuple, dtype: Any) -> np.ndarray:
    """An empty (B, H, L, E) with heads side by side in memory: merging them again is free."""
    B, H, L, E = shape
    return np.empty((B, L, H, E), dtype).transpose(0, 2, 1, 3)


@nn._attention.kernel("cpu")
def _(
    xp: Any, query: Any, key: Any, value: Any, mask: Any = None,
    *, is_causal: bool = False, scale: float = 1.0, dropout_p: float = 0.0, rng: Any = None,
) -> Any:  # fmt: skip
    if not _plain(query, key, value, mask):
        with one_blas_thread():
            return _attention(
                xp, query, key, value, mask,
                is_causal=is_causal, scale=scale, dropout_p=dropout_p, rng=rng,
            )  # fmt: skip
    if query.shape[2] == 1 and not is_causal and not dropout_p:
        return _one_query(query, key, value, scale)
    out, lse, kept = _forward(query, key, value, is_causal, scale, dropout_p, rng)
    return out, Saved(lse=lse, kept=kept)


def _forward(
    query: Any, key: Any, value: Any, is_causal: bool, scale: float, dropout_p: float, rng: Any
) -> tuple:
    """out, lse, and the probabilities of each tile, None if they are not kept"""
    B, H, L, _ = query.shape
    S = key.shape[2]
    out = _side_by_side((B, H, L, value.shape[3]), query.dtype)
    lse = np.empty((B, H, L, 1), query.dtype)
    work = _Work(query, S, is_causal, dropout_p, rng)
    kept = work.room(query)
    ones = np.ones((S, 1), query.dtype)

    def part(where: tuple) -> None:
        q, k_T, v = query[where] * scale, key[where].swapaxes(-1, -2), value[where]
        keep = work.keep(where, q.dtype)
        for i, (rows, n) in enumerate(work.tiles):
            total, o, top = lse[where][..., rows, :], out[where][..., rows, :], None
            e = np.matmul(q[..., rows, :], k_T[..., :n], out=kept[i][where] if kept else None)
            if not (-SAFE < e.min() and e.max() < SAFE):  # else e^score as it is: no shift
                e[...] = work.without_hidden(e, rows)
                top = e.max(axis=-1, keepdims=True)
                e -= top
            np.exp(e, e)
            work.hide(e, rows)
            np.matmul(e, ones[:n], out=total)
            if kept:
                e *= 1 / total
            np.matmul(e if keep is None else e * keep[..., rows, :n], v[..., :n, :], out=o)
            if not kept:
                o *= 1 / total
            np.log(total, total)
            if top is not None:
                total += top

    with one_blas_thread():
        parallel(part, work.parts)
    return out, lse, kept


def _one_query(query: Any, key: Any, value: Any, scale: float) -> Any:
    """One token beside those in a cache: a pass over the keys, and one over the values."""
    B, H, _, _ = query.shape
    lse = np.empty((B, H, 1, 1), query.dtype)
    out = np.empty((B, H, 1, value.shape[3]), query.dtype)

    def part(heads: slice) -> None:
        e = np.matmul(query[:, heads] * scale, key[:, heads].swapaxes(2, 3))  # (B, heads, 1, S)
        top = np.maximum.reduce(e, axis=3, keepdims=True)
        e -= top
        np.exp(e, e)
        total, o = np.add.reduce(e, axis=3, keepdims=True), out[:, heads]
        np.matmul(e, value[:, heads], out=o)
        o /= total
        np.log(total, total)
        np.add(total, top, lse[:, heads])

    halves = [slice(0, H // 2), slice(H // 2, H)] if key.size > LONG and H > 1 else [slice(0, H)]
    with one_blas_thread():
        parallel(part, halves)
    return out, Saved(lse=lse)


@nn._attention.kernel("cpu", "query", "key", "value", "mask")
def _(
    xp: Any, g: Any, query: Any, key: Any, value: Any, mask: Any, is_causal: bool, scale: float,
    dropout_p: float, rng: Any, lse: Any, kept: Any, out: Any, needs: Any,
) -> Any:  # fmt: skip
    if not _plain(query, key, value, mask):
        with one_blas_thread():
            return _attention_rule(
                xp, g, query, key, value, mask, is_causal, scale, dropout_p, rng, needs
            )
    into = tuple(_side_by_side(a.shape, a.dtype) for a in (query, key, value))
    saved = (lse, kept, out)
    _backward(g, query, key, value, is_causal, scale, dropout_p, rng, saved, into)
    return *into, None


def _backward(
    g: Any, query: Any, key: Any, value: Any, is_causal: bool, scale: float, dropout_p: float,
    rng: Any, saved: tuple, into: tuple,
) -> None:  # fmt: skip
    """The gradients of query, key and value, written into three arrays of their shapes."""
    (lse, kept, out), (dq, dk, dv), L = saved, into, query.shape[2]
    work = _Work(query, key.shape[2], is_causal, dropout_p, rng)

    def part(where: tuple) -> None:
        q, k, grad = query[where] * scale, key[where], g[where]
        k_T, v_T = k.swapaxes(-1, -2), value[where].swapaxes(-1, -2)
        keep = work.keep(where, q.dtype)
        row_sum = np.vecdot(grad, out[where])[..., None]  # of P * dP over the keys
        into_k, into_v = dk[where], dv[where]
        seen = work.tiles[-1][1]
        into_k[..., seen:, :] = into_v[..., seen:, :] = 0
        for i, (rows, n) in reversed([*enumerate(work.tiles)]):
            if kept:
                p = kept[i][where]
            else:
                p = np.matmul(q[..., rows, :], k_T[..., :n])
                p -= lse[where][..., rows, :]  # ln P
                if not p.max() < SAFE:
                    p = work.without_hidden(p, rows)
                np.exp(p, p)
                work.hide(p, rows)
            dS = np.matmul(grad[..., rows, :], v_T[..., :n])
            if keep is not None:
                dS *= keep[..., rows, :n]
            dS -= row_sum[..., rows, :]
            dS *= p
            if keep is not None:
                p = p * keep[..., rows, :n]
            np.matmul(dS, k[..., :n, :], out=dq[where][..., rows, :])
            if rows.stop == L:  # the last tile sees most keys: it writes, others add
                np.matmul(dS.swapaxes(-1, -2), q[..., rows, :], out=into_k[..., :n, :])
                np.matmul(p.swapaxes(-1, -2), grad[..., rows, :], out=into_v[..., :n, :])
            else:
                into_k[..., :n, :] += np.matmul(dS.swapaxes(-1, -2), q[..., rows, :])
                into_v[..., :n, :] += np.matmul(p.swapaxes(-1, -2), grad[..., rows, :])
        into_q = dq[where]
        into_q *= scale

    with one_blas_thread():
        parallel(part, work.parts)


# ------------------------------------------------------------------------------ packed


_packed = fused._packed_attention.op.forward
_packed_rule = fused._packed_attention.op.rules["qkv"].function


def _heads(x: np.ndarray, n_head: int, parts: int) -> np.ndarray:
    """(B, T, parts * C) as (parts, B, n_head, T, hs): a view"""
    B, T, width = x.shape
    return x.reshape(B, T, parts, n_head, width // (parts * n_head)).transpose(2, 0, 3, 1, 4)


@fused._packed_attention.kernel("cpu")
def _(
    xp: Any, qkv: Any, *, n_head: int, is_causal: bool = False, scale: float = 1.0,
    dropout_p: float = 0.0, rng: Any = None,
) -> Any:  # fmt: skip
    if not plain(qkv):
        return _packed(
            xp, qkv, n_head=n_head, is_causal=is_causal, scale=scale, dropout_p=dropout_p, rng=rng
        )
    q, k, v = _heads(qkv, n_head, 3)
    out, lse, kept = _forward(q, k, v, is_causal, scale, dropout_p, rng)
    merged = out.transpose(0, 2, 1, 3).reshape(*qkv.shape[:2], -1)
    return merged, Saved(lse=lse, kept=kept)


@fused._packed_attention.kernel("cpu", "qkv")
def _(
    xp: Any, g: Any, qkv: Any, out: Any, n_head: int, is_causal: bool, scale: float,
    dropout_p: float, rng: Any, lse: Any, kept: Any,
) -> Any:  # fmt: skip
    if not plain(qkv, g, out):
        return _packed_rule(xp, g, qkv, n_head, is_causal, scale, dropout_p, rng)
    (grad,), (result,) = _heads(g, n_head, 1), _heads(out, n_head, 1)
    q, k, v = _heads(qkv, n_head, 3)
    d_qkv = np.empty_like(qkv)
    saved, into = (lse, kept, result), tuple(_heads(d_qkv, n_head, 3))
    _backward(grad, q, k, v, is_causal, scale, dropout_p, rng, saved, into)
    return d_qkv
