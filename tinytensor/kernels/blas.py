"""The BLAS inside of NumPy: its number of threads, and the one product that NumPy cannot ask for,

    out = a @ b + out

in one visit of out (sgemm and dgemm with beta = 1). Where the library cannot be called, NumPy does
the same in two.
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
_PRODUCTS = ("scipy_cblas_{}gemm64_", "scipy_cblas_{}gemm", "cblas_{}gemm64_", "cblas_{}gemm")


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
def _gemm(kind: str) -> Any:
    """cblas_sgemm or cblas_dgemm; None if it is not to be found."""
    letter, real = {"f": ("s", ctypes.c_float), "d": ("d", ctypes.c_double)}[kind]
    name, function = _found([n.format(letter) for n in _PRODUCTS])
    if function is not None:
        size, at = ctypes.c_int64 if "64" in name else ctypes.c_int, ctypes.c_void_p
        function.restype = None
        function.argtypes = [ctypes.c_int] * 3 + [size] * 3 + [
            real, at, size, at, size, real, at, size
        ]  # fmt: skip
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
