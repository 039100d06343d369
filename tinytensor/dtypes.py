"""Dtypes are NumPy's; how they combine is PyTorch's."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from .autograd import Variable
from .errors import DtypeError

float64 = double = np.dtype(np.float64)
float32 = float = np.dtype(np.float32)
float16 = half = np.dtype(np.float16)
int64 = long = np.dtype(np.int64)
int32 = int = np.dtype(np.int32)
int16 = short = np.dtype(np.int16)
int8 = np.dtype(np.int8)
uint8 = np.dtype(np.uint8)
uint16 = np.dtype(np.uint16)
bool = np.dtype(np.bool_)



def bfloat16() -> np.dtype:
    """float32's upper half, `tt.bfloat16`: NumPy has none, ml_dtypes does. For CUDA."""
    try:
        import ml_dtypes
    except ImportError:
        raise DtypeError("bfloat16 is not NumPy's own: pip install ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)


def finfo(dtype: np.dtype) -> Any:
    """The limits of a floating dtype, bfloat16 too: .max, .eps ... as numpy.finfo has them."""
    if dtype.kind == "V":
        import ml_dtypes

        return ml_dtypes.finfo(dtype)
    return np.finfo(dtype)


_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2}  # V: bfloat16, from ml_dtypes
_default = [float32]


def get_default_dtype() -> np.dtype:
    return _default[0]


def set_default_dtype(dtype: Any) -> None:
    """The dtype of new floating tensors, and of integers in functions such as exp."""
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        raise DtypeError(f"the default dtype must be a floating one, got {dtype}")
    _default[0] = dtype


def is_floating(dtype: np.dtype) -> Any:
    return dtype.kind in "fV"


def promote_types(a: np.dtype, b: np.dtype) -> np.dtype:
    """PyTorch's lattice: the higher of bool < integer < float decides, then the wider."""
    if a == b:
        return a
    if _CATEGORY[a.kind] != _CATEGORY[b.kind]:
        return a if _CATEGORY[a.kind] > _CATEGORY[b.kind] else b
    if "V" in (a.kind, b.kind):  # bfloat16 and float16 meet in float32
        other = b if a.kind == "V" else a
        return float32 if other.itemsize == 2 else other
    return np.promote_types(a, b)


def result_type(*args: Any) -> np.dtype:
    """PyTorch's result dtype: tensors with dimensions first, then 0-d tensors, then scalars.

    A lower group counts only if it is of a higher category (bool < integer < float).
    """
    groups: list[Any] = [None, None, None]
    for a in args:
        if a is None:
            continue
        if isinstance(a, Variable):
            rank, dtype = (0 if a.array.ndim else 1), a.array.dtype
        elif isinstance(a, (builtins.bool, np.bool_)):
            rank, dtype = 2, bool
        else:
            real = isinstance(a, (builtins.float, np.floating))
            rank, dtype = 2, _default[0] if real else int64
        groups[rank] = dtype if groups[rank] is None else promote_types(groups[rank], dtype)
    result = None
    for dtype in groups:
        if dtype is not None and (
            result is None or _CATEGORY[dtype.kind] > _CATEGORY[result.kind]
        ):
            result = dtype
    if result is None:
        raise TypeError("result_type needs at least one tensor or number")
    return result


def lowest(dtype: Any) -> Any:
    """What every number of the dtype is at least: -inf for floats."""
    return -np.inf if is_floating(dtype) else False if dtype == bool else np.iinfo(dtype).min


def highest(dtype: Any) -> Any:
    """What every number of the dtype is at most: inf for floats."""
    return np.inf if is_floating(dtype) else True if dtype == bool else np.iinfo(dtype).max
