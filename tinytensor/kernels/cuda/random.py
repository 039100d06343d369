"""tinytensor/random.py on CUDA, a launch a draw: random.cu.

The same bits as on the CPU, but for normal, whose log and cos may differ in the last digit of
float64. Half precision is drawn as random.py says, from words or from float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import random
from .launch import kernel


def place(key: random.Key) -> tuple:
    """A key as kernels take it: base, seed, block."""
    return getattr(key, "base", None), key.seed % 2**64, key.block % 2**64


def _fill(name: str, out: Any, key: random.Key, *more: Any) -> Any:
    kernel("random", name)((-(-out.size // 1024),), (256,), out, *place(key), *more, out.size)
    return out


@random.words.kernel("cuda")
def _(xp: Any, key: random.Key, count: int) -> Any:
    return _fill("words", xp.empty(count, np.uint64), key)


@random.uniform.kernel("cuda")
def _(xp: Any, key: random.Key, shape: tuple, dtype: Any) -> Any:
    if np.dtype(dtype) not in (np.float32, np.float64):
        return random.uniform.reference(xp, key, shape, dtype)
    name = "uniform" if np.dtype(dtype) == np.float32 else "uniform_double"
    return _fill(name, xp.empty(shape, dtype), key)


@random.normal.kernel("cuda")
def _(xp: Any, key: random.Key, shape: tuple, dtype: Any) -> Any:
    if np.dtype(dtype) == np.float32:
        return _fill("normal", xp.empty(shape, dtype), key)
    return _fill("normal_double", xp.empty(shape, np.float64), key).astype(dtype, copy=False)


@random.integers.kernel("cuda")
def _(xp: Any, key: random.Key, shape: tuple, low: int, high: int) -> Any:
    return _fill("integers", xp.empty(shape, np.int64), key, high - low, low)
