"""Dropout, whose backward is itself: dropout.cu."""

from __future__ import annotations

from typing import Any

from ... import random
from ...ops import nn
from .launch import STORAGE, kernel
from .random import place

_op = nn._dropout.op


@nn._dropout.kernel("cuda")
def _(xp: Any, x: Any, *, p: float, key: random.Key) -> Any:
    if x.dtype.name not in STORAGE:
        return _op.forward(xp, x, p=p, key=key)
    x = xp.ascontiguousarray(x)
    out = xp.empty(x.shape, x.dtype)
    scale = 0.0 if p == 1 else float(x.dtype.type(1 / (1 - p)))
    threshold = round(p * 2**32)
    kernel("dropout", "dropout")(
        (-(-x.size // 2048),), (256,), out, x, *place(key), threshold, scale, x.size
    )
    return out
