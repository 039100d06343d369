"""ReLU, SiLU and GELU in its tanh form, block by block. A bias before them is linear's: BLAS adds
it in the product.

    relu   max(x, 0)
    silu   x * s,   s = sigmoid(x)
    gelu   x/2 * (1 + tanh u) = x * s,   s = sigmoid(2u),   u = sqrt(2/pi) * (x + 0.044715 x^3)

An exponential and a division cost half of what NumPy's tanh does, and backward needs neither:
s is out / x.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ops import activations
from .blocks import by_blocks, plain

_C = 2 * math.sqrt(2 / math.pi)
_relu, _relu_rule = activations.relu.op.forward, activations.relu.op.rules["x"].function
_silu, _silu_rule = activations.silu.op.forward, activations.silu.op.rules["x"].function
_gelu, _gelu_rule = activations.gelu.op.forward, activations.gelu.op.rules["x"].function


def _relu_slope_rows(g: np.ndarray, out: np.ndarray, dx: np.ndarray) -> None:
    """dx = g * relu'(x)"""
    np.multiply(g, out > 0, out=dx)


def _over_sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    """out = x * sigmoid(z), where out holds -z"""
    with np.errstate(over="ignore"):  # e^-z = inf gives the 0 that is meant
        np.exp(out, out)
    out += 1
    np.divide(x, out, out)


def _sigmoid_again(x: np.ndarray, out: np.ndarray, tiny: Any, s: np.ndarray) -> None:
    """s = out / x, and 1/2 where, if tiny, that is 0 / 0 or a quotient of denormal numbers"""
    with np.errstate(invalid="ignore"):
        np.divide(out, x, s)
    if tiny:
        s[np.abs(x) < 1e-15] = 0.5


def _silu_rows(x: np.ndarray, out: np.ndarray) -> None:
    """out = silu(x)"""
    np.negative(x, out)
    _over_sigmoid(x, out)


def _silu_slope_rows(g: np.ndarray, x: np.ndarray, out: np.ndarray, dx: np.ndarray) -> None:
    """dx = g * silu'(x);  silu' = s + (x - out) s"""
    np.abs(x, dx)
    s = np.empty_like(x)
    _sigmoid_again(x, out, not dx.min() > 1e-15, s)
    np.subtract(x, out, dx)
    dx *= s
    dx += s
    dx *= g


def gelu_rows(x: np.ndarray, out: np.ndarray) -> None:
    """out = gelu(x)"""
    np.multiply(x, x, out)
    out *= -0.044715 * _C
    out -= _C
    out *= x  # -2u
    _over_sigmoid(x, out)


def gelu_slope_rows(g: np.ndarray, x: np.ndarray, out: np.ndarray, dx: np.ndarray) -> None:
    """dx = g * gelu'(x);  gelu' = s (1 + (x - out) 2u')"""
    np.multiply(x, x, dx)
    tiny = not dx.min() > 1e-30
    dx *= 3 * 0.044715 * _C
    dx += _C  # 2u'
    s = x - out
    dx *= s
    dx += 1
    _sigmoid_again(x, out, tiny, s)
    dx *= s
    dx *= g


@activations.relu.kernel("cpu")
def _(xp: Any, x: Any) -> Any:
    if not plain(x):
        return _relu(xp, x)
    out = np.empty_like(x)
    by_blocks(lambda x, out: np.maximum(x, 0, out=out), x, out, visits=3)
    return out


@activations.relu.kernel("cpu", "x")
def _(g: Any, out: Any) -> Any:
    if not plain(g, out):
        return _relu_rule(g, out)
    dx = np.empty_like(out)
    by_blocks(_relu_slope_rows, g, out, dx, visits=5)
    return dx


@activations.silu.kernel("cpu")
def _(xp: Any, x: Any) -> Any:
    if not plain(x):
        return _silu(xp, x)
    out = np.empty_like(x)
    by_blocks(_silu_rows, x, out)
    return out


@activations.silu.kernel("cpu", "x")
def _(xp: Any, g: Any, x: Any, out: Any) -> Any:
    if not plain(g, x, out):
        return _silu_rule(xp, g, x)
    dx = np.empty_like(x)
    by_blocks(_silu_slope_rows, g, x, out, dx)
    return dx


@activations.gelu.kernel("cpu")
def _(xp: Any, x: Any, *, approximate: str = "none") -> Any:
    if not plain(x):
        return _gelu(xp, x, approximate=approximate)
    out = np.empty_like(x)
    if approximate == "tanh":
        by_blocks(gelu_rows, x, out, visits=15)
    else:
        by_blocks(lambda x, out: np.copyto(out, _gelu(np, x, approximate=approximate)), x, out)
    return out


@activations.gelu.kernel("cpu", "x")
def _(xp: Any, g: Any, x: Any, out: Any, approximate: str) -> Any:
    if not plain(g, x, out):
        return _gelu_rule(xp, g, x, approximate)
    dx = np.empty_like(x)
    if approximate == "tanh":
        by_blocks(gelu_slope_rows, g, x, out, dx, visits=15)
    else:
        by_blocks(lambda g, x, dx: np.copyto(dx, _gelu_rule(np, g, x, approximate)), g, x, dx)
    return dx
