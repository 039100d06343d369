"""Attention in tiles: a few heads and 64 query rows at a time, and no key that they do not see.

A tile's scores stay in the cache from the product that makes them to the one that uses them; no
(B, H, L, S) array is ever made. In backward, taking lse from every score and the row's sum from
every dP needs no pass over the tile: both ride in the products, as one more column beside query
and beside g.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import random
from ...op import Saved
from ...ops import nn
from ..threads import one_blas_thread, parallel
from .blocks import BLOCK_BYTES

ROWS = 64  # query rows of a tile
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


class _Work:
    """One call cut up: parts (batch, heads) for the threads, in each tiles of (rows, keys seen)."""

    def __init__(self, q: Any, S: int, is_causal: bool, dropout_p: float, rng: Any):
        B, H, L, _ = q.shape
        self.shape, self.is_causal, self.dropout_p, self.rng = (H, L, S), is_causal, dropout_p, rng
        heads = max(1, 2 * BLOCK_BYTES // (min(L, ROWS) * S * q.itemsize))
        self.parts = [(b, slice(h, min(h + heads, H))) for b in range(B) for h in range(0, H, heads)]
        rows = [slice(i, min(i + ROWS, L)) for i in range(0, L, ROWS)]
        self.tiles = [(r, min(r.stop, S) if is_causal else S) for r in rows]
        self.seen = np.tril(np.ones((ROWS, ROWS), q.dtype))  # of the square on the diagonal

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

    def keep(self, part: tuple, dtype: Any) -> np.ndarray | None:
        """Dropout's factors of one part, (heads, L, S): the reference's, drawn from their place."""
        if not self.dropout_p:
            return None
        b, heads = part
        H, L, S = self.shape
        size = (heads.stop - heads.start, L, S)
        start = (b * H + heads.start) * L * S
        return random.keep_mask(np, self.rng, size, self.dropout_p, dtype, start)


def _side_by_side(B: int, H: int, L: int, E: int, dtype: Any) -> np.ndarray:
    """An empty (B, H, L, E) with heads side by side in memory: merging them again is free."""
    return np.empty((B, L, H, E), dtype).transpose(0, 2, 1, 3)


def _with_column(a: np.ndarray, column: Any) -> np.ndarray:
    """(heads, n, E) with one more column."""
    out = np.empty((*a.shape[:2], a.shape[2] + 1), a.dtype)
    out[..., :-1] = a
    out[..., -1] = column
    return out


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
    B, H, L, _ = query.shape
    out = _side_by_side(B, H, L, value.shape[3], query.dtype)
    lse = np.empty((B, H, L, 1), query.dtype)
    work = _Work(query, key.shape[2], is_causal, dropout_p, rng)
    ones = np.ones((key.shape[2], 1), query.dtype)

    def part(where: tuple) -> None:
        q, k_T, v = query[where] * scale, key[where].swapaxes(1, 2), value[where]
        keep = work.keep(where, q.dtype)
        for rows, n in work.tiles:
            p, top = np.matmul(q[:, rows], k_T[..., :n]), None
            if not (-SAFE < p.min() and p.max() < SAFE):  # else e^score as it is: no shift
                p = work.without_hidden(p, rows)
                top = p.max(axis=-1, keepdims=True)
                p -= top
            np.exp(p, p)
            work.hide(p, rows)
            total, o = lse[where][:, rows], out[where][:, rows]
            np.matmul(p, ones[:n], out=total)
            if keep is not None:
                p *= keep[:, rows, :n]
            np.matmul(p, v[:, :n], out=o)
            o /= total
            np.log(total, total)
            if top is not None:
                total += top

    with one_blas_thread():
        parallel(part, work.parts)
    return out, Saved(lse=lse)


@nn._attention.kernel("cpu", "query", "key", "value", "mask")
def _(
    xp: Any, g: Any, query: Any, key: Any, value: Any, mask: Any, is_causal: bool, scale: float,
    dropout_p: float, rng: Any, lse: Any, out: Any, needs: Any,
) -> Any:  # fmt: skip
    if not _plain(query, key, value, mask):
        with one_blas_thread():
            return _attention_rule(
                xp, g, query, key, value, mask, is_causal, scale, dropout_p, rng, lse, out, needs
            )
    dq, dk, dv = (_side_by_side(*a.shape, a.dtype) for a in (query, key, value))
    L = query.shape[2]
    work = _Work(query, key.shape[2], is_causal, dropout_p, rng)

    def part(where: tuple) -> None:
        q, k, grad = query[where] * scale, key[where], g[where]
        keep = work.keep(where, q.dtype)
        q_lse, k_one = _with_column(q, -lse[where][..., 0]), _with_column(k, 1)
        g_sum = _with_column(grad, -np.vecdot(grad, out[where]))  # sum: of P * dP over the keys
        v_one = _with_column(value[where], 1)
        if keep is not None:
            row_sum, g_sum = g_sum[..., -1:], g_sum[..., :-1]
            v_one = v_one[..., :-1]
        into_k, into_v = dk[where], dv[where]
        seen = work.tiles[-1][1]
        into_k[:, seen:] = into_v[:, seen:] = 0
        for rows, n in reversed(work.tiles):  # the last sees most keys: it writes, others add
            p = np.matmul(q_lse[:, rows], k_one[:, :n].swapaxes(1, 2))  # ln P
            if not p.max() < SAFE:
                p = work.without_hidden(p, rows)
            np.exp(p, p)
            work.hide(p, rows)
            dS = np.matmul(g_sum[:, rows], v_one[:, :n].swapaxes(1, 2))
            if keep is not None:
                dS *= keep[:, rows, :n]
                dS += row_sum[:, rows]
            dS *= p
            if keep is not None:
                p *= keep[:, rows, :n]
            np.matmul(dS, k[:, :n], out=dq[where][:, rows])
            if rows.stop == L:
                np.matmul(dS.swapaxes(1, 2), q[:, rows], out=into_k[:, :n])
                np.matmul(p.swapaxes(1, 2), grad[:, rows], out=into_v[:, :n])
            else:
                into_k[:, :n] += np.matmul(dS.swapaxes(1, 2), q[:, rows])
                into_v[:, :n] += np.matmul(p.swapaxes(1, 2), grad[:, rows])
        into_q = dq[where]
        into_q *= scale

    with one_blas_thread():
        parallel(part, work.parts)
    return dq, dk, dv, None
