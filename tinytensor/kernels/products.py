"""Matrix products on the CPU, cut into parts for our own threads.

BLAS could thread them itself, but its threads spin while they wait for each other: on cores that
other programs use as well, a small product then takes ten times as long as on one thread. A part
goes to one thread of ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import linalg, nn
from ..ops.linalg import as_rows
from .blas import add_product
from .matvec import FEW, few_rows
from .threads import cut, get_num_threads, one_blas_thread, parallel

SMALL = 4_000_000  # multiply-adds: below, handing out parts costs more than it saves
TINY = 200_000  # below, OpenBLAS itself stays on one thread


def cut_work(n: int, work: int) -> list[slice]:
    """range(n) in one part per thread, or whole if the work is small."""
    return cut(n, get_num_threads() if work > SMALL else 1)


def product(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """a (M, K) @ b (K, N), plus bias (N,)."""
    M, N, work = len(a), b.shape[1], a.size * b.shape[1]
    if work < TINY:
        return a @ b if bias is None else a @ b + bias
    out = np.empty((M, N), np.result_type(a, b))
    if M <= FEW and b.flags.f_contiguous:
        return few_rows(a, b.T, bias, out)
    wide = N > 4 * M and bias is None  # cut the longer side: parts stay large
    parts = cut_work(N if wide else M, work)

    def part(s: slice) -> None:
        if wide:
            np.matmul(a, b[:, s], out=out[:, s])
        else:
            product_into(out[s], a[s], b, bias)

    with one_blas_thread():
        parallel(part, parts)
    return out


def product_into(out: np.ndarray, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None) -> None:
    """out = a @ b + bias, on this thread"""
    if bias is None:
        np.matmul(a, b, out=out)
    else:  # the product reads what it is added to anyway: the bias costs one write
        out[...] = bias
        add_product(a, b, out)


def weight_gradient_into(dw: Any, db: Any, dy: np.ndarray, x: np.ndarray) -> None:
    """dw = dy^T x and db = the column sums of dy, unless they are None, on this thread"""
    if dw is not None:
        np.matmul(dy.T, x, out=dw)
    if db is not None:
        np.matmul(np.ones(len(dy), dy.dtype), dy, out=db)


def _plain(*arrays: Any) -> bool:
    for a in arrays:
        if a is not None and not (a.dtype.char in "fd" and a.size):
            return False
    return True


@nn._linear.kernel("cpu")
def _(xp: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    if not _plain(x, weight, bias):
        return nn._linear.op.forward(xp, x, weight, bias)
    return product(as_rows(x), weight.T, bias).reshape(*x.shape[:-1], len(weight))


@nn._linear.kernel("cpu", "x", "weight", "bias")
def _(xp: Any, g: Any, x: Any, weight: Any) -> Any:
    return _backward(xp, g, x, weight, bias=True)


@nn._linear.kernel("cpu", "x", "weight")
def _(xp: Any, g: Any, x: Any, weight: Any) -> Any:
    return _backward(xp, g, x, weight)[:2]


@nn._linear.kernel("cpu", "x")
def _(g: Any, weight: Any) -> Any:
    return product(as_rows(g), weight).reshape(*g.shape[:-1], weight.shape[1])


@nn._linear.kernel("cpu", "weight")
def _(xp: Any, g: Any, x: Any) -> Any:
    return product(as_rows(g).T, as_rows(x))


@nn._linear.kernel("cpu", "bias")
def _(g: Any) -> Any:
    rows = as_rows(g)
    with one_blas_thread():
        return np.ones(len(rows), g.dtype) @ rows


def _backward(xp: Any, g: Any, x: Any, weight: Any, bias: bool = False) -> tuple:
    """All gradients in one phase: none of them waits for another."""
    rows, inputs = as_rows(g), as_rows(x)
    dx, dw = np.empty_like(inputs), np.empty_like(weight)
    db = np.empty(len(weight), g.dtype) if bias else None
    parts = [("x", s) for s in cut_work(len(rows), dx.size * len(weight))]
    parts += [("weight", s) for s in cut_work(len(weight), dx.size * len(weight))]

    def part(which: tuple) -> None:
        name, s = which
        if name == "x":
            np.matmul(rows[s], weight, out=dx[s])
        else:
            weight_gradient_into(dw[s], None if db is None else db[s], rows[:, s], inputs)

    with one_blas_thread():
        parallel(part, parts)
    return dx.reshape(x.shape), dw, db


@linalg._matmul.kernel("cpu")
def _(xp: Any, x: Any, y: Any) -> Any:
    if y.ndim == 2 and _plain(x, y):
        return product(as_rows(x), y).reshape(*x.shape[:-1], y.shape[1])
    with one_blas_thread():
        return linalg._matmul.op.forward(xp, x, y)
