"""Sums and products in one go: squares, interpolation, fused additions."""

from __future__ import annotations

import math

import numpy as np

from .. import dtypes
from ..autograd import Variable
from ..errors import DtypeError
from ..op import op
from .elementwise import cast, clamp, mul, narrowed, sub
from .elementwise import pow as power


@op(promote="same")
def square(xp, x):
    """out = x^2"""
    return x.astype(dtypes.int64) if x.dtype.kind == "b" else x * x


square.rule("x", lambda g, x: g * (2 * x))


@op(promote="float")
def reciprocal(xp, x):
    """out = 1 / x"""
    return 1 / x


reciprocal.rule("x", lambda g, out: -g * out * out)


@op
def positive(xp, x):
    """out = +x: x itself, but for bools, which have no sign"""
    if x.dtype.kind == "b":
        raise DtypeError("positive: x is bool: cast it with .to(tt.int64)")
    return +x


positive.rule("x", lambda g: g)


@op(promote="float")
def deg2rad(xp, x):
    """out = x * pi / 180"""
    return x * (math.pi / 180)


deg2rad.rule("x", lambda g: g * (math.pi / 180))


@op(promote="float")
def rad2deg(xp, x):
    """out = x * 180 / pi"""
    return x * (180 / math.pi)


rad2deg.rule("x", lambda g: g * (180 / math.pi))


@op(promote="equal")
def lerp(xp, x, end, weight):
    """out = x + weight * (end - x): x at weight 0, end at weight 1, each exactly"""
    near_x = xp.abs(weight) < 0.5
    return xp.where(near_x, x + weight * (end - x), end - (end - x) * (1 - weight))


lerp.rule("x", lambda g, weight: g * (1 - weight))
lerp.rule("end", lambda g, weight: g * weight)
lerp.rule("weight", lambda g, x, end: g * (end - x))


@op(promote="same")
def addcmul(xp, x, tensor1, tensor2, *, value=1):
    """out = x + value * tensor1 * tensor2"""
    return x + value * tensor1 * tensor2


addcmul.rule("x", lambda g: g)
addcmul.rule("tensor1", lambda g, tensor2, value: g * (value * tensor2))
addcmul.rule("tensor2", lambda g, tensor1, value: g * (value * tensor1))


@op(promote="same")
def addcdiv(xp, x, tensor1, tensor2, *, value=1):
    """out = x + value * tensor1 / tensor2, of floats"""
    if x.dtype.kind not in "fV":
        raise DtypeError(f"addcdiv: needs floats, got {x.dtype}: cast with .float()")
    return x + value * tensor1 / tensor2


addcdiv.rule("x", lambda g: g)
addcdiv.rule("tensor1", lambda g, tensor2, value: g * value / tensor2)
addcdiv.rule("tensor2", lambda g, tensor1, tensor2, value: -g * (value * tensor1 / tensor2**2))


@op
def nan_to_num(xp, x, *, nan=None, posinf=None, neginf=None):
    """out = x, with NaN as `nan` (0), inf as `posinf` (the largest float), -inf as `neginf`"""
    if x.dtype.kind not in "fV":
        return x.copy()
    limits = dtypes.finfo(x.dtype)
    out = xp.where(xp.isnan(x), 0.0 if nan is None else nan, x)
    out = xp.where(x == math.inf, limits.max if posinf is None else posinf, out)
    return xp.where(x == -math.inf, limits.min if neginf is None else neginf, out).astype(x.dtype)


nan_to_num.rule("x", lambda xp, g, x: narrowed(xp.where(xp.isfinite(x), g, 0), g.dtype))


@op(promote="same")
def fmax(xp, x, y):
    """out = max(x, y), the other one where one is NaN; where x >= y the gradient is x's"""
    return xp.fmax(x, y)


@op(promote="same")
def fmin(xp, x, y):
    """out = min(x, y), the other one where one is NaN; where x <= y the gradient is x's"""
    return xp.fmin(x, y)


fmax.rule("x", lambda xp, g, x, y: xp.where((x >= y) | (y != y), g, 0))
fmax.rule("y", lambda xp, g, x, y: xp.where((x >= y) | (y != y), 0, g))
fmin.rule("x", lambda xp, g, x, y: xp.where((x <= y) | (y != y), g, 0))
fmin.rule("y", lambda xp, g, x, y: xp.where((x <= y) | (y != y), 0, g))


@op(promote="same", differentiable=False)
def gcd(xp, x, y):
    """out = the greatest common divisor, of integers"""
    return xp.gcd(x, y)


@op(promote="same", differentiable=False)
def lcm(xp, x, y):
    """out = the least common multiple, of integers"""
    return xp.lcm(x, y)


def clamp_min(x, min):
    """out = max(x, min)"""
    return clamp(x, min)


def clamp_max(x, max):
    """out = min(x, max)"""
    return clamp(x, None, max)


def rsub(x, y, *, alpha=1):
    """out = y - alpha * x"""
    return sub(y, x, alpha=alpha)


def float_power(x, y):
    """out = x ** y in double precision"""
    double = np.dtype(np.float64)
    x, y = (cast(a, dtype=double) if isinstance(a, Variable) else float(a) for a in (x, y))
    return power(x, y)


def ldexp(x, y):
    """out = x * 2^y"""
    return mul(x, power(2.0, y))
