"""GELU in its tanh form, block by block.

    out = x/2 * (1 + tanh u) = x * sigmoid(2u),   u = sqrt(2/pi) * (x + 0.044715 x^3)

An exponential and a division cost half of what NumPy's tanh does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ops import activations
from ..threads import parallel
from .blocks import plain, row_blocks

_C = 2 * math.sqrt(2 / math.pi)
_gelu, _gelu_rule = activations.gelu.op.forward, activations.gelu.op.rules["x"].function


def gelu_rows(x: np.ndarray, out: np.ndarray) -> None:
    """out = gelu(x), in the tanh form; x and out are blocks."""
    np.multiply(x, x, out)
    out *= -0.044715 * _C
    out -= _C
    out *= x  # -2u
    np.exp(out, out)
    out += 1
    np.divide(x, out, out)


def gelu_slope_rows(g: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out = g * gelu'(x);  gelu' = s + x s (1 - s) 2u',  s = sigmoid(2u)."""
    s = np.multiply(x, x)
    np.multiply(s, 3 * 0.044715 * _C, out)
    out += _C
    out *= x  # x 2u'
    s *= -0.044715 * _C
    s -= _C
    s *= x
    np.exp(s, s)
    s += 1
    np.divide(1, s, s)
    out *= s
    out -= out * s
    out += s
    out *= g


@activations.gelu.kernel("cpu")
def _(xp: Any, x: np.ndarray, *, approximate: str = "none") -> np.ndarray:
    if approximate != "tanh" or not plain(x):
        return _gelu(xp, x, approximate=approximate)
    out = np.empty_like(x)
    flat, result = x.reshape(-1), out.reshape(-1)
    parallel(lambda s: gelu_rows(flat[s], result[s]), row_blocks(flat.size, x.itemsize))
    return out


@activations.gelu.kernel("cpu", "x")
def _(xp: Any, g: np.ndarray, x: np.ndarray, approximate: str) -> np.ndarray:
    if approximate != "tanh" or not plain(g, x):
        return _gelu_rule(xp, g, x, approximate)
    out = np.empty_like(x)
    grad, flat, result = g.reshape(-1), x.reshape(-1), out.reshape(-1)
    parallel(
        lambda s: gelu_slope_rows(grad[s], flat[s], result[s]), row_blocks(flat.size, x.itemsize)
    )
    return out
