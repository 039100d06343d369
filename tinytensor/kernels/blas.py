"""The BLAS inside of NumPy: its number of threads, and two things that NumPy cannot ask for,

    out = a @ b + out               gemm with beta = 1
    y = alpha * x + beta * y        axpby

in one visit of what is written. Where the library cannot be called, NumPy does the same in more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112  # cblas.h
_THREADS = (
    "scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_", "openblas_set_num_threads", "MKL_Set_Num_Threads",
    "bli_thread_set_num_threads",
)  # fmt: skip
_NAMES = ("scipy_cblas_{}64_", "scipy_cblas_{}", "cblas_{}64_", "cblas_{}")


def _found(names: Any) -> tuple[str, Any]:
    """The first of these functions that NumPy's library has, and its name."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    try:
        library = ctypes.CDLL(_multiarray_umath.__file__)
    except OSError:
        return "", None
    return next(((n, getattr(library, n)) for n in names if hasattr(library, n)), ("", None))


@cache
def set_threads() -> Callable[[int], Any]:
    """The function that sets the threads of the BLAS; one that does nothing if unknown."""
    _, function = _found(_THREADS)
    if function is None:
        return lambda n: None
    function.argtypes, function.restype = [ctypes.c_int], None
    return function


@cache
def _routine(name: str, kind: str) -> tuple[Any, Any, Any]:
    """cblas_s{name} or cblas_d{name}, None if it is not to be found; its integers, its numbers."""
    letter, real = {"f": ("s", ctypes.c_float), "d": ("d", ctypes.c_double)}[kind]
    found, function = _found([n.format(letter + name) for n in _NAMES])
    return function, ctypes.c_int64 if "64" in found else ctypes.c_int, real


@cache
def _gemm(kind: str) -> Any:
    function, size, real = _routine("gemm", kind)
    at = ctypes.c_void_p
    if function is not None:
        function.restype = None
        function.argtypes = [ctypes.c_int] * 3 + [size] * 3 + [
            real, at, size, at, size, real, at, size
        ]  # fmt: skip
    return function


@cache
def _axpby(kind: str) -> Any:
    function, size, real = _routine("axpby", kind)
    at = ctypes.c_void_p
    if function is not None:
        function.restype, function.argtypes = None, [size, real, at, size, real, at, size]
    return function


def _layout(a: np.ndarray) -> tuple[int, int] | None:
    """(plain or transposed, numbers from one row to the next), if BLAS can read a so."""
    rows, columns = (s // a.itemsize for s in a.strides)
    if columns == 1 and rows >= a.shape[1]:
        return _PLAIN, rows
    if rows == 1 and columns >= a.shape[0]:
        return _TRANSPOSED, columns
    return None


def add_product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (M, N) += a (M, K) @ b (K, N), all of one dtype"""
    layouts = _layout(a), _layout(b), _layout(out)
    function = _gemm(out.dtype.char) if out.dtype.char in "fd" else None
    one_dtype = a.dtype == b.dtype == out.dtype
    if function is None or None in layouts or not one_dtype or layouts[2][0] != _PLAIN:  # type: ignore[index]
        out += a @ b
        return
    (order_a, lda), (order_b, ldb), (_, ldc) = layouts  # type: ignore[misc]
    function(
        _ROW_MAJOR, order_a, order_b, *out.shape, a.shape[1],
        1.0, a.ctypes.data, lda, b.ctypes.data, ldb, 1.0, out.ctypes.data, ldc,
    )  # fmt: skip


def add_scaled(alpha: float, x: np.ndarray, beta: float, y: np.ndarray) -> None:
    """y = alpha * x + beta * y, two arrays of one shape"""
    plain = x.dtype == y.dtype and x.flags.c_contiguous and y.flags.c_contiguous
    function = _axpby(y.dtype.char) if plain and y.dtype.char in "fd" else None
    if function is None:
        y *= beta
        y += alpha * x
    else:
        function(y.size, alpha, x.ctypes.data, 1, beta, y.ctypes.data, 1)
