"""Dropout, block by block: a mask is drawn where it is used, and again in backward.

The numbers are tinytensor.random.keep_mask's, each block's from its place in the stream.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import random
from ...ops import nn
from ..threads import parallel
from .blocks import plain, row_blocks

DRAWN = 20  # visits to a number that a random one takes as long as

_dropout = nn._dropout.op.forward
_dropout_rule = nn._dropout.op.rules["x"].function


def _dropped(x: Any, p: float, key: Any) -> Any:
    out = np.empty_like(x)
    flat, result = x.reshape(-1), out.reshape(-1)

    def block(s: slice) -> None:
        keep = random.kept(np, key, s.stop - s.start, p, s.start)
        np.multiply(flat[s], keep, out=result[s])
        result[s] *= x.dtype.type(1 / (1 - p))

    parallel(block, row_blocks(flat.size, x.itemsize, DRAWN))
    return out


@nn._dropout.kernel("cpu")
def _(xp: Any, x: Any, *, p: float, key: Any) -> Any:
    return _dropped(x, p, key) if plain(x) and p < 1 else _dropout(xp, x, p=p, key=key)


@nn._dropout.kernel("cpu", "x")
def _(xp: Any, g: Any, p: float, key: Any) -> Any:
    return _dropped(g, p, key) if plain(g) and p < 1 else _dropout_rule(xp, g, p, key)
