"""The loss of a language model's last layer, whose logits would be the largest array of all.

    logits = x W^T + b,   E = e^(logits - logits[target]),   total = its sum over a row
    loss = ln total
    d_logits = (E / total - one_hot(target)) * scale,   dx = d_logits W,   dW = d_logits^T x

A tile of E is made, summed, and multiplied with W for dx while it is in the cache. A row's total is
known only after its last tile, so it is divided out of the products: dx from (E W) / total, dW from
E^T (x / total). One visit of each number of E, and that for the exponential. Shifted so, no row can
vanish, and none overflows before its loss is 69.

If a gradient is wanted, E is kept for a chunk of rows until it has served for dW, and the gradients
are made in the forward; backward scales them by g. Else nothing is kept but a tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...op import Saved
from ...ops import fused
from ...ops.linalg import as_rows
from ..blas import add_product
from ..threads import cut, get_num_threads, one_blas_thread, parallel
from .blocks import plain, row_blocks

ROOM = 64 * 2**20  # bytes of E for a chunk
TILE_BYTES = 2**20
WIDE = 1024  # classes: above, threads share them out and not the rows: each reads its part of W
COLUMNS = 512  # classes of a tile
SMALL = 2_000_000  # multiply-adds: below, one thread is as fast
HIGH = 1e30  # a total above asks for another shift: by the largest logit

_forward = fused._linear_cross_entropy.op.forward
_rule = fused._linear_cross_entropy.op.rules["x"].function


def _steps(whole: slice, step: int) -> list[slice]:
    return [slice(i, min(i + step, whole.stop)) for i in range(whole.start, whole.stop, step)]


class _Chunk:
    """Some rows of one call: x (n, C) and target (n,); scale (n, 1) is what each loss counts."""

    def __init__(self, x: Any, weight: Any, bias: Any, target: Any, scale: Any):
        self.x, self.weight, self.bias, self.target, self.scale = x, weight, bias, target, scale
        n, V, threads = len(x), len(weight), get_num_threads()
        self.wide = V > WIDE
        if self.wide:
            self.lanes = [(slice(0, n), v) for v in cut(V, threads)]
        else:
            self.lanes = [(s, slice(0, V)) for s in cut(n, threads if x.size * V > SMALL else 1)]

    def exponentials(self, shift: Any, E: Any, dx: Any) -> np.ndarray:
        """total (n, 1) = row sum of e^(logits - shift); also E, and dx = E W, unless None"""
        x, weight, wide = self.x, self.weight, self.wide
        total = np.zeros((len(self.lanes) if wide else 1, len(x), 1), x.dtype)
        sums = [dx] + [np.empty_like(x) for _ in self.lanes[1:] if wide and dx is not None]

        @np.errstate(over="ignore", invalid="ignore")  # an overflow shows in the total
        def lane(numbered: tuple) -> None:
            i, (rows, classes) = numbered
            i = i if wide else 0  # lanes with rows of their own need no sums of their own
            for v in _steps(classes, COLUMNS if wide else len(weight)):
                ones = np.ones((v.stop - v.start, 1), x.dtype)
                for s in _steps(rows, max(64, TILE_BYTES // ones.nbytes)):
                    e = np.empty((len(x[s]), len(ones)), x.dtype) if E is None else E[s, v]
                    np.subtract(0 if self.bias is None else self.bias[v], shift[s], out=e)
                    add_product(x[s], weight[v].T, e)
                    np.exp(e, e)
                    total[i, s] += e @ ones
                    if dx is not None and v.start == classes.start:
                        np.matmul(e, weight[v], out=sums[i][s])
                    elif dx is not None:
                        add_product(e, weight[v], sums[i][s])

        with one_blas_thread():
            parallel(lane, list(enumerate(self.lanes)))
        for other in sums[1:]:
            dx += other
        return total.sum(axis=0)

    def largest(self) -> np.ndarray:
        """The largest logit of each row, (n, 1)."""
        top = np.full((len(self.x), 1), -np.inf, self.x.dtype)
        for v in _steps(slice(0, len(self.weight)), COLUMNS):
            logits = self.x @ self.weight[v].T
            if self.bias is not None:
                logits += self.bias[v]
            np.maximum(top, logits.max(axis=1, keepdims=True), out=top)
        return top

    def run(self, lse: np.ndarray, losses: np.ndarray, dx: Any) -> tuple:
        """Fill lse (n, 1), losses (n, 1) and dx (n, C), if there is one. Then return two arrays
        for the other gradients, with E' such that d_logits = rate * E': E' and rate (n, 1)."""
        x, scale, target = self.x, self.scale, self.target
        E: Any = None if dx is None else np.empty((len(x), len(self.weight)), x.dtype)
        own, logit = np.empty_like(x), np.empty_like(lse)  # of the target: its row of W, its logit

        def look_up(s: slice) -> None:
            np.take(self.weight, target[s], axis=0, out=own[s], mode="clip")  # checked before
            np.vecdot(x[s], own[s], out=logit[s, 0])
            if self.bias is not None:
                logit[s, 0] += self.bias[target[s]]

        blocks = row_blocks(len(x), x.strides[0], 6)
        parallel(look_up, blocks)
        shift, total = logit, self.exponentials(logit, E, dx)
        if not total.max() < HIGH:
            shift = self.largest()
            total = self.exponentials(shift, E, dx)
        rate = scale / total
        np.log(total, out=losses)
        np.add(losses, shift, out=lse)
        losses += shift - logit

        def subtract_targets(s: slice) -> None:
            dx[s] *= rate[s]
            own[s] *= scale[s]
            dx[s] -= own[s]
            E[np.arange(s.start, s.stop), target[s]] -= total[s, 0]

        if dx is not None:
            parallel(subtract_targets, blocks)
        return E, rate


def _weight_gradients(E: Any, rate: Any, x: Any, dw: Any, db: Any, first: bool) -> None:
    """dw (V, C) and db (V,) of a chunk, added to those of the chunks before it"""
    scaled = x * rate  # (n, C)
    (V, C), many = dw.shape, get_num_threads() if E.size * x.shape[1] > SMALL else 1
    whole = slice(None)
    parts = [(v, whole) for v in cut(V, many)] if V > C else [(whole, c) for c in cut(C, many)]

    def part(where: tuple) -> None:
        v, c = where
        if first:
            np.matmul(E[:, v].T, scaled[:, c], out=dw[where])
        else:
            add_product(E[:, v].T, scaled[:, c], dw[where])

    with one_blas_thread():
        parallel(part, parts)
        if db is not None:
            db += rate[:, 0] @ E


def _by_chunks(
    x: Any, weight: Any, bias: Any, target: Any, ignore_index: int, divisor: int, ahead: bool
) -> tuple[Any, Any, tuple]:
    """The loss, lse, and, ahead, the gradients of x, weight and bias"""
    rows, kept = as_rows(x), (target != ignore_index).reshape(-1, 1)
    labels = np.where(kept[:, 0], target.reshape(-1), 0)
    scale = (kept / max(divisor, 1)).astype(x.dtype)
    lse, losses = np.empty((2, len(rows), 1), x.dtype)
    dx = dw = db = None
    size = len(rows)  # of a chunk
    if ahead:
        dx, dw = np.empty_like(x), np.empty_like(weight)
        db = None if bias is None else np.zeros_like(bias)
        size = -(-size // -(-size * len(weight) * x.itemsize // ROOM))  # chunks of one size
    for s in _steps(slice(0, len(rows)), size):
        chunk = _Chunk(rows[s], weight, bias, labels[s], scale[s])
        E, rate = chunk.run(lse[s], losses[s], None if dx is None else as_rows(dx)[s])
        if ahead:
            _weight_gradients(E, rate, rows[s], dw, db, s.start == 0)
        del E  # before the next is made
    return np.sum(losses, where=kept) / divisor, lse, (dx, dw, db)


@fused._linear_cross_entropy.kernel("cpu")
def _(
    xp: Any, x: Any, weight: Any, bias: Any = None,
    *, target: Any, ignore_index: int, divisor: int, ahead: bool,
) -> Any:  # fmt: skip
    if not plain(x, weight, bias):
        return _forward(
            xp, x, weight, bias,
            target=target, ignore_index=ignore_index, divisor=divisor, ahead=ahead,
        )  # fmt: skip
    loss, lse, gradients = _by_chunks(x, weight, bias, target, ignore_index, divisor, ahead)
    made = [gradients] if ahead else []
    return loss, Saved(lse=lse, made=made)


@fused._linear_cross_entropy.kernel("cpu", "x", "weight", "bias")
def _(
    xp: Any, g: Any, x: Any, weight: Any, bias: Any, target: Any, ignore_index: int, divisor: int,
    lse: Any, made: Any,
) -> Any:  # fmt: skip
    if not plain(x, weight, bias):
        return _rule(xp, g, x, weight, bias, target, ignore_index, divisor, lse)
    if made:
        gradients = made.pop()  # ours now, to write into: a second backward makes them again
    else:
        gradients = _by_chunks(x, weight, bias, target, ignore_index, divisor, True)[2]
    for d in gradients:
        if d is not None and g != 1:
            d *= g
    return gradients
