"""Rounding, and division with remainder: flat pieces, so that derivatives in x are 0 or 1.

    x = floor_divide(x, y) * y + remainder(x, y)        remainder has the sign of y, as Python's %
    x = div(x, y, rounding_mode="trunc") * y + fmod(x, y)         fmod has the sign of x, as C's
"""

from __future__ import annotations

import numpy as np

from ..autograd import Variable
from ..errors import DtypeError
from ..op import op
from .elementwise import _div_rounded, div, divides

# ------------------------------------------------------------------------------ to whole numbers


def _whole(f, x):
    """f of floats; integers are whole already, and bools are no numbers to be rounded."""
    if x.dtype.kind == "b":
        raise DtypeError(f"{f.__name__} of bools: cast x with .to(tt.int64) first")
    return x.copy() if x.dtype.kind in "iu" else f(x)


@op
def floor(xp, x):
    """out = the largest whole number <= x; derivative 0"""
    return _whole(xp.floor, x)


@op
def ceil(xp, x):
    """out = the smallest whole number >= x; derivative 0"""
    return _whole(xp.ceil, x)


@op
def trunc(xp, x):
    """out = x without what follows the point; derivative 0"""
    return _whole(xp.trunc, x)


@op
def round(xp, x, *, decimals=0):
    """out = x to `decimals` places, halves to the even neighbour; derivative 0"""
    if decimals and x.dtype.kind not in "fV":
        raise DtypeError(f"round: decimals = {decimals} needs floats, x is {x.dtype}")
    if not decimals:
        return _whole(xp.rint, x)
    scale = 10.0 ** abs(decimals)
    return xp.rint(x * scale) / scale if decimals > 0 else xp.rint(x / scale) * scale


@op
def frac(xp, x):
    """out = x - trunc(x), what follows the point; derivative 1"""
    if x.dtype.kind not in "fV":
        raise DtypeError(f"frac: needs floats, x is {x.dtype}")
    return x - xp.trunc(x)


for flat in (floor, ceil, trunc, round):
    flat.rule("x", lambda g: g * 0)
frac.rule("x", lambda g: g)
fix = trunc

# ------------------------------------------------------------------------------ division


@op(promote="same")
def remainder(xp, x, y):
    """out = x - floor(x / y) * y, of y's sign; derivatives 1 and -floor(x / y)"""
    divides("remainder", x, y)
    return xp.remainder(x, y)


remainder.rule("x", lambda g: g)
remainder.rule("y", lambda xp, g, x, y: -g * _div_rounded.on(xp, x, y, rounding_mode="floor"))


@op(promote="same")
def fmod(xp, x, y):
    """out = x - trunc(x / y) * y, of x's sign; derivatives 1 and -trunc(x / y)"""
    divides("fmod", x, y)
    return xp.fmod(x, y)


fmod.rule("x", lambda g: g)
fmod.rule("y", lambda xp, g, x, y: -g * _div_rounded.on(xp, x, y, rounding_mode="trunc"))


def floor_divide(x, y):
    """out = floor(x / y), rounded towards minus infinity, as Python's //; derivative 0"""
    return div(x, y, rounding_mode="floor")


# ------------------------------------------------------------------------------ signs


@op(differentiable=False)
def signbit(xp, x):
    """out = whether x is negative; of floats the sign bit, so that -0.0 counts"""
    return xp.signbit(x) if x.dtype.kind in "fV" else x < 0


@op(promote="float")
def copysign(xp, x, y):
    """out = |x| with the sign of y; dL/dx = g where the signs agree, -g where not, 0 at x = 0"""
    return xp.copysign(x, y)


copysign.rule("x", lambda xp, g, x, y: xp.where(x == 0, 0, xp.where(_agree(x, y), g, -g)))
copysign.rule("y", lambda g: g * 0)


def _agree(x, y):
    negative = [signbit(a) if isinstance(a, Variable) else np.signbit(a) for a in (x, y)]
    return negative[0] == negative[1]


@op(promote="equal", differentiable=False)
def heaviside(xp, x, values):
    """out = 0 where x < 0, values where x = 0, 1 where x > 0"""
    out = xp.where(xp.asarray(x == 0), values, xp.asarray(x > 0))  # x may be a number
    return out.astype((x if hasattr(x, "dtype") else values).dtype)
