"""Elementwise ops: out[i] = f(x[i], y[i]), arguments broadcast, each with its derivative beside it.

g is dL/dout. The engine sums g back to an argument's shape where that was broadcast.
"""

from __future__ import annotations

import math

import numpy as np

from .. import backend, special
from ..errors import ArgumentError, DivisionError, DtypeError, ShapeError
from ..op import op

# ------------------------------------------------------------------------------ arithmetic


@op(promote="same")
def add(xp, x, y, *, alpha=1):
    """out = x + alpha * y"""
    return x + y if alpha == 1 else x + alpha * y


add.rule("x", lambda g: g)
add.rule("y", lambda g, alpha: g if alpha == 1 else g * alpha)


@op(promote="same", bools=False)
def sub(xp, x, y, *, alpha=1):
    """out = x - alpha * y"""
    return x - y if alpha == 1 else x - alpha * y


sub.rule("x", lambda g: g)
sub.rule("y", lambda g, alpha: -g if alpha == 1 else g * -alpha)


@op(promote="same")
def mul(xp, x, y):
    """out = x * y"""
    return x * y


mul.rule("x", lambda g, y: g * y)
mul.rule("y", lambda g, x: g * x)


@op(promote="float")
def _div(xp, x, y):
    return x / y


_div.rule("x", lambda g, y: g / y)
_div.rule("y", lambda g, out, y: -g * out / y)  # d(x/y)/dy = -(x/y)/y


def divides(name, x, y):
    """Integers cannot be divided by 0. (On the GPU to look would mean to wait: there it is 0.)"""
    whole = (x if hasattr(x, "dtype") else y).dtype.kind in "biu"
    if whole and isinstance(y, (int, np.ndarray)) and not np.all(y):
        raise DivisionError(f"{name}: integers by zero: mask y, or cast to floats")


@op(promote="same")
def _div_rounded(xp, x, y, *, rounding_mode):
    """out = x / y rounded down ('floor') or towards 0 ('trunc'); a step function"""
    divides("div", x, y)
    if rounding_mode == "floor":
        return x // y
    out = x // y
    if out.dtype.kind in "fV":
        return xp.trunc(x / y)
    return out + ((out < 0) & (out * y != x)).astype(out.dtype)


_div_rounded.rule("x", lambda g: g * 0)
_div_rounded.rule("y", lambda g: g * 0)


def div(x, y, *, rounding_mode=None):
    """out = x / y; integers divide to floats, or stay integers with a rounding mode"""
    if rounding_mode is None:
        return _div(x, y)
    if rounding_mode not in ("floor", "trunc"):
        raise ArgumentError(
            f"div: rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}"
        )
    return _div_rounded(x, y, rounding_mode)


@op(promote="same")
def neg(xp, x):
    """out = -x"""
    return -x


neg.rule("x", lambda g: -g)


@op(promote="same")
def pow(xp, x, y):
    """out = x ** y"""
    if getattr(y, "dtype", None) is not None and y.dtype.kind == "i":  # 1 / x^|y|, rounded to 0
        inverse = ((x == 1) | (x == -1)) * x ** (y & 1)
        return xp.where(y < 0, inverse, x ** xp.maximum(y, 0))
    return x**y


@pow.rule("x")
def _(xp, g, x, y):  # y x^(y-1), and 0 where y = 0, also at x = 0
    if isinstance(y, (int, float)):
        return g * 0 if y == 0 else g * (y * x ** (y - 1))
    return xp.where(y == 0, xp.zeros_like(g), g * (y * x ** xp.where(y == 0, y + 1, y - 1)))


@pow.rule("y")
def _(xp, g, x, y, out):  # x^y ln x, and 0 where x = 0 and y >= 0: the limit
    x = x if hasattr(x, "dtype") else xp.full_like(out, x)
    zero = (x == 0) & (y >= 0)
    return xp.where(zero, xp.zeros_like(g), g * (out * xp.log(xp.where(zero, x + 1, x))))


@op(promote="same")
def abs(xp, x):
    """out = |x|; derivative 0 at the kink x = 0"""
    return xp.abs(x)


abs.rule("x", lambda xp, g, x: g * xp.sign(x))


@op(promote="same")
def sign(xp, x):
    """out = -1, 0 or 1, and 0 for a NaN; its derivative is 0 everywhere"""
    up = (x > 0).astype(x.dtype)
    return up if x.dtype.kind in "bu" else up - (x < 0)


sign.rule("x", lambda g: g * 0)

# ------------------------------------------------------------------------------ exp, log, trig


@op(promote="float")
def exp(xp, x):
    """out = e ** x"""
    return xp.exp(x)


exp.rule("x", lambda g, out: g * out)


@op(promote="float")
def log(xp, x):
    """out = ln x"""
    return xp.log(x)


log.rule("x", lambda g, x: g / x)


@op(promote="float")
def sqrt(xp, x):
    """out = x ** (1/2)"""
    return xp.sqrt(x)


sqrt.rule("x", lambda g, out: g / (2 * out))


@op(promote="float")
def rsqrt(xp, x):
    """out = x ** (-1/2)"""
    return 1 / xp.sqrt(x)


rsqrt.rule("x", lambda g, out: g * (-0.5 * out * out * out))


@op(promote="float")
def sin(xp, x):
    """out = sin x"""
    return xp.sin(x)


sin.rule("x", lambda xp, g, x: g * xp.cos(x))


@op(promote="float")
def cos(xp, x):
    """out = cos x"""
    return xp.cos(x)


cos.rule("x", lambda xp, g, x: -g * xp.sin(x))


@op(promote="float")
def tanh(xp, x):
    """out = tanh x = (e^x - e^-x) / (e^x + e^-x)"""
    return xp.tanh(x)


tanh.rule("x", lambda g, out: g * (1 - out * out))


@op(promote="float")
def sigmoid(xp, x):
    """out = 1 / (1 + e^-x), through tanh so that no exponential overflows"""
    return 0.5 * xp.tanh(0.5 * x) + 0.5


sigmoid.rule("x", lambda g, out: g * (out * (1 - out)))


@op(promote="float")
def erf(xp, x):
    """out = 2/sqrt(pi) * integral of e^(-t^2) from 0 to x, to a few units in the last place"""
    return special.erf(xp, x)


erf.rule("x", lambda xp, g, x: g * (2 / math.sqrt(math.pi) * xp.exp(-(x * x))))


# ------------------------------------------------------------------------------ choosing


@op(promote="same")
def maximum(xp, x, y):
    """out = max(x, y); where they are equal each gets half of the gradient"""
    return xp.maximum(x, y)


maximum.rule("x", lambda xp, g, x, y: xp.where(x == y, 0.5 * g, g * (x > y)))
maximum.rule("y", lambda xp, g, x, y: xp.where(x == y, 0.5 * g, g * (x < y)))


@op(promote="same")
def minimum(xp, x, y):
    """out = min(x, y); where they are equal each gets half of the gradient"""
    return xp.minimum(x, y)


minimum.rule("x", lambda xp, g, x, y: xp.where(x == y, 0.5 * g, g * (x < y)))
minimum.rule("y", lambda xp, g, x, y: xp.where(x == y, 0.5 * g, g * (x > y)))


@op(promote="same")
def clamp(xp, x, min=None, max=None):
    """out = min(max(x, min), max); the gradient passes where min <= x <= max"""
    if min is None and max is None:
        raise ArgumentError("clamp: pass min or max, or both")
    if min is not None:
        x = xp.maximum(x, min)
    return x if max is None else xp.minimum(x, max)


@clamp.rule("x")
def _(g, x, min, max):
    if min is not None:
        g = g * (x >= min)
    return g if max is None else g * (x <= max)


@clamp.rule("min")
def _(g, x, min, max):
    return g * ((x < min) if max is None else (x < min) & (min < max))


@clamp.rule("max")
def _(g, x, min, max):
    return g * ((x > max) if min is None else (x > max) | (max < min))


def _check_mask(name, which, mask):
    if getattr(mask, "dtype", np.dtype(bool)) not in (bool, np.uint8):
        raise DtypeError(
            f"{name}: {which} must be of bools, got {mask.dtype}: compare, as in x > 0"
        )


@op(promote=("x", "y"))
def where(xp, condition, x, y):
    """out = x where condition holds, else y"""
    _check_mask("where", "condition", condition)
    return xp.where(condition, x, y)


where.rule("x", lambda xp, g, condition: xp.where(condition, g, xp.zeros_like(g)))
where.rule("y", lambda xp, g, condition: xp.where(condition, xp.zeros_like(g), g))


@op(promote=("x",))
def masked_fill(xp, x, mask, value):
    """out = value where mask holds, else x, in x's dtype; value is a number or a 0-d tensor"""
    _check_mask("masked_fill", "mask", mask)
    if getattr(value, "ndim", 0):
        raise ShapeError(f"masked_fill: value {value.shape} must be a number or a 0-d tensor")
    return xp.where(mask, value, x).astype(x.dtype, copy=False)


masked_fill.rule("x", lambda xp, g, mask: xp.where(mask, xp.zeros_like(g), g))


@masked_fill.rule("value")
def _(xp, g, mask, value_dtype):
    return xp.where(mask, g, xp.zeros_like(g)).sum().astype(value_dtype)


@op
def cast(xp, x, *, dtype):
    """out = x in another dtype; the gradient comes back in x's own"""
    return x.astype(dtype)


cast.rule("x", lambda g, x_dtype: g.astype(x_dtype))


def widened(x):
    """An array to compute with: half precision in float32, others as they are"""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def narrowed(x, dtype):
    """What was computed so, in the dtype that is wanted"""
    return x if x.dtype == dtype else x.astype(dtype)


@op
def transfer(xp, x, *, device, origin):
    """out = x on another device; the gradient travels back"""
    return backend.to_device(x, device)


@transfer.rule("x")
def _(xp, g, origin):
    return transfer.on(xp, g, device=origin, origin=None)


@op
def clone(xp, x):
    """out = a copy of x, on the tape"""
    return x.copy()


clone.rule("x", lambda g: g)

# ------------------------------------------------------------------------------ comparison


@op(promote="same", differentiable=False)
def eq(xp, x, y):
    """out = x == y"""
    return x == y


@op(promote="same", differentiable=False)
def ne(xp, x, y):
    """out = x != y"""
    return x != y


@op(promote="same", differentiable=False)
def lt(xp, x, y):
    """out = x < y"""
    return x < y


@op(promote="same", differentiable=False)
def le(xp, x, y):
    """out = x <= y"""
    return x <= y


@op(promote="same", differentiable=False)
def gt(xp, x, y):
    """out = x > y"""
    return x > y


@op(promote="same", differentiable=False)
def ge(xp, x, y):
    """out = x >= y"""
    return x >= y


@op(differentiable=False)
def logical_not(xp, x):
    """out = not x"""
    return xp.logical_not(x)


@op(differentiable=False)
def isnan(xp, x):
    """out = x is not a number"""
    return xp.isnan(x)


@op(differentiable=False)
def isinf(xp, x):
    """out = x is plus or minus infinity"""
    return xp.isinf(x)


@op(differentiable=False)
def isfinite(xp, x):
    """out = x is neither infinite nor NaN"""
    return xp.isfinite(x)


@op(promote="same", differentiable=False)
def bitwise_and(xp, x, y):
    """out = x & y, for bool and integers"""
    return x & y


@op(promote="same", differentiable=False)
def bitwise_or(xp, x, y):
    """out = x | y, for bool and integers"""
    return x | y


@op(promote="same", differentiable=False)
def bitwise_xor(xp, x, y):
    """out = x ^ y, for bool and integers"""
    return x ^ y


@op(promote="same", differentiable=False)
def bitwise_not(xp, x):
    """out = ~x, for bool and integers"""
    return ~x
