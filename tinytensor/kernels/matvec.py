"""Products of a few rows with a matrix that is read once: text written token by token.

Memory sets the pace. One row is a matrix-vector product, which BLAS's own threads do best: they
wait for each other by spinning, so that no time is lost between the dozens of products of a token.
Where another program has the cores, that is the worst way to wait, and one thread takes over: for a
moment, since it may have been a hiccup, then for longer and longer, as long as it is so. The result
is the same to the last bit: each number of it is one dot product, and OpenBLAS forms them four at a
time, so what is left over when threads share them by fours comes last.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from .threads import get_num_threads, one_blas_thread, parallel

FEW = 16  # rows: below, reading the matrix takes longer than multiplying by it
ALONE = 250_000  # numbers: a smaller matrix is read sooner than a second thread wakes up
PIECE = 400_000  # multiply-adds: below, OpenBLAS takes another path, half as fast
SLOW = 8e9  # bytes a second, and
HICCUP = 1e-4  # seconds: BLAS threads that take longer than both do not have the cores
MOMENT, PAUSE = 0.01, 1.0  # seconds until they are tried again: at first, and at most
RECOVERY = 0.9  # of the next pause is left after a product that was not slow


class _Crowd:
    """Until when the cores are taken to be another program's, and for how long the next time."""

    until, pause = 0.0, MOMENT


def few_rows(a: np.ndarray, w: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> np.ndarray:
    """out = a (M, K) @ w (N, K)^T + bias (N,) for small M."""
    if w.size < ALONE or len(w) < 64 or get_num_threads() == 1:  # wide: threads would share sums
        with one_blas_thread():
            np.matmul(a, w.T, out=out)
    elif len(a) == 1:
        _matvec(w, a[0], out[0])
    else:
        _by_pieces(a, w, out)
    if bias is not None:
        out += bias
    return out


def _matvec(w: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out (N,) = w (N, K) @ x (K,)"""
    start = perf_counter()
    if start < _Crowd.until:
        with one_blas_thread():
            np.matmul(w, x, out=out)
        return
    fours = 4 * get_num_threads()
    even = len(w) // fours * fours
    np.matmul(w[:even], x, out=out[:even])
    if even < len(w):
        rest = slice(max(even - 4, 0), None)  # with a four again: one row alone would be a dot
        np.matmul(w[rest], x, out=out[rest])
    end = perf_counter()
    if end - start > w.nbytes / SLOW + HICCUP:
        _Crowd.until, _Crowd.pause = end + _Crowd.pause, min(2 * _Crowd.pause, PAUSE)
    else:
        _Crowd.pause = max(RECOVERY * _Crowd.pause, MOMENT)


def _by_pieces(a: np.ndarray, w: np.ndarray, out: np.ndarray) -> None:
    """BLAS copies a matrix to an order of its own and reads it again: from the cache, by pieces."""
    N, K = w.shape
    step = max(16, PIECE // (len(a) * K))
    pieces = [slice(i, min(i + step, N)) for i in range(0, N, step)]

    def piece(s: slice) -> None:
        np.matmul(a, w[s].T, out=out[:, s])

    parallel(piece, pieces)
