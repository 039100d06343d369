"""Exponentials, logarithms, circular and hyperbolic functions, each beside its derivative."""

from __future__ import annotations

import math

from ..op import op
from .elementwise import sigmoid

_LN2, _LN10 = math.log(2), math.log(10)

# ------------------------------------------------------------------------------ exp and log


@op(promote="float")
def exp2(xp, x):
    """out = 2^x"""
    return xp.exp2(x)


exp2.rule("x", lambda g, out: g * out * _LN2)


@op(promote="float")
def expm1(xp, x):
    """out = e^x - 1, accurate near x = 0"""
    return xp.expm1(x)


expm1.rule("x", lambda g, out: g * (out + 1))


@op(promote="float")
def log1p(xp, x):
    """out = ln(1 + x), accurate near x = 0"""
    return xp.log1p(x)


log1p.rule("x", lambda g, x: g / (1 + x))


@op(promote="float")
def log2(xp, x):
    """out = log x to base 2"""
    return xp.log2(x)


log2.rule("x", lambda g, x: g / (x * _LN2))


@op(promote="float")
def log10(xp, x):
    """out = log x to base 10"""
    return xp.log10(x)


log10.rule("x", lambda g, x: g / (x * _LN10))


@op(promote="same")
def logaddexp(xp, x, y):
    """out = ln(e^x + e^y); dL/dx = g e^x / (e^x + e^y)"""
    return xp.logaddexp(x, y)


logaddexp.rule("x", lambda xp, g, x, y: g * sigmoid.on(xp, x - y))
logaddexp.rule("y", lambda xp, g, x, y: g * sigmoid.on(xp, y - x))


@op(promote="same")
def logaddexp2(xp, x, y):
    """out = log2(2^x + 2^y)"""
    return xp.logaddexp2(x, y)


logaddexp2.rule("x", lambda xp, g, x, y: g * sigmoid.on(xp, (x - y) * _LN2))
logaddexp2.rule("y", lambda xp, g, x, y: g * sigmoid.on(xp, (y - x) * _LN2))


@op(promote="float")
def xlogy(xp, x, y):
    """out = x ln y, and 0 where x = 0 (but NaN where y is)"""
    none = (x == 0) & ~xp.isnan(y)
    y = xp.where(none, xp.ones_like(x * y), y)  # of the common dtype, also where one is a number
    return xp.where(none, 0, x * xp.log(y))


@xlogy.rule("x")
def _(xp, g, x, y):
    none = (x == 0) & (y <= 0)
    return xp.where(none, 0, g * xp.log(xp.where(none, xp.ones_like(g), y)))


xlogy.rule("y", lambda g, x, y: g * x / y)


@op(promote="float")
def logit(xp, x, *, eps=None):
    """out = ln(x / (1 - x)), the inverse of sigmoid; with eps, x is clamped to [eps, 1 - eps]"""
    if eps is not None:
        x = xp.minimum(xp.maximum(x, eps), 1 - eps)
    return xp.log(x / (1 - x))


@logit.rule("x")
def _(xp, g, x, eps):
    if eps is None:
        return g / (x * (1 - x))
    inside = (x >= eps) & (x <= 1 - eps)
    x = xp.where(inside, x, 0.5)
    return xp.where(inside, g / (x * (1 - x)), 0)


# ------------------------------------------------------------------------------ circular


@op(promote="float")
def tan(xp, x):
    """out = sin x / cos x"""
    return xp.tan(x)


tan.rule("x", lambda g, out: g * (1 + out * out))


@op(promote="float")
def asin(xp, x):
    """out = the angle in [-pi/2, pi/2] whose sine is x"""
    return xp.arcsin(x)


asin.rule("x", lambda xp, g, x: g / xp.sqrt(1 - x * x))


@op(promote="float")
def acos(xp, x):
    """out = the angle in [0, pi] whose cosine is x"""
    return xp.arccos(x)


acos.rule("x", lambda xp, g, x: -g / xp.sqrt(1 - x * x))


@op(promote="float")
def atan(xp, x):
    """out = the angle in (-pi/2, pi/2) whose tangent is x"""
    return xp.arctan(x)


atan.rule("x", lambda g, x: g / (1 + x * x))


@op(promote="float")
def atan2(xp, x, y):
    """out = the angle in [-pi, pi] of the point (y, x): the vertical coordinate comes first"""
    return xp.arctan2(x, y)


@atan2.rule("x")
def _(xp, g, x, y):
    return _per_square(xp, g * y, x, y)


@atan2.rule("y")
def _(xp, g, x, y):
    return _per_square(xp, -g * x, x, y)


def _per_square(xp, g, x, y):
    """g / (x^2 + y^2), and 0 at the origin, where the angle has no derivative."""
    square = x * x + y * y
    origin = square == 0
    return xp.where(origin, 0, g / xp.where(origin, 1, square))


@op(promote="float")
def sinc(xp, x):
    """out = sin(pi x) / (pi x), and 1 at x = 0"""
    return xp.sinc(x)


@sinc.rule("x")
def _(xp, g, x):  # (pi x cos(pi x) - sin(pi x)) / (pi x^2)
    p = x * math.pi
    zero = x == 0
    slope = (p * xp.cos(p) - xp.sin(p)) / (xp.where(zero, 1, p) * xp.where(zero, 1, x))
    return xp.where(zero, 0, g * slope)


# ------------------------------------------------------------------------------ hyperbolic


@op(promote="float")
def sinh(xp, x):
    """out = (e^x - e^-x) / 2"""
    return xp.sinh(x)


sinh.rule("x", lambda xp, g, x: g * xp.cosh(x))


@op(promote="float")
def cosh(xp, x):
    """out = (e^x + e^-x) / 2"""
    return xp.cosh(x)


cosh.rule("x", lambda xp, g, x: g * xp.sinh(x))


@op(promote="float")
def asinh(xp, x):
    """out = ln(x + sqrt(x^2 + 1))"""
    return xp.arcsinh(x)


asinh.rule("x", lambda xp, g, x: g / xp.sqrt(x * x + 1))


@op(promote="float")
def acosh(xp, x):
    """out = ln(x + sqrt(x^2 - 1)), for x >= 1"""
    return xp.arccosh(x)


acosh.rule("x", lambda xp, g, x: g / xp.sqrt(x * x - 1))


@op(promote="float")
def atanh(xp, x):
    """out = ln((1 + x) / (1 - x)) / 2, for |x| <= 1"""
    return xp.arctanh(x)


atanh.rule("x", lambda g, x: g / (1 - x * x))


@op(promote="same")
def hypot(xp, x, y):
    """out = sqrt(x^2 + y^2), without overflow; derivative 0 at the origin"""
    return xp.hypot(x, y)


hypot.rule("x", lambda xp, g, x, out: _direction(xp, g, x, out))
hypot.rule("y", lambda xp, g, y, out: _direction(xp, g, y, out))


def _direction(xp, g, x, length):
    origin = length == 0
    return xp.where(origin, 0, g * (x / xp.where(origin, 1, length)))


# ------------------------------------------------------------------------------ probability


@op(promote="float")
def erfc(xp, x):
    """out = 1 - erf(x), accurate where that is tiny"""
    from .. import special

    return special.erfc(xp, x)


erfc.rule("x", lambda xp, g, x: g * (-2 / math.sqrt(math.pi) * xp.exp(-(x * x))))

arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
arcsinh, arccosh, arctanh = asinh, acosh, atanh
