"""Activation functions. At a kink the derivative is PyTorch's, named in the docstring."""

from __future__ import annotations

import math

from ..errors import ArgumentError, ShapeError
from ..op import op
from .elementwise import erf, mul, narrowed, sigmoid, sub, tanh, widened
from .shape import canonical, chunk, reshape

# ------------------------------------------------------------------------------ relu and its kin


@op(promote="same")
def relu(xp, x):
    """out = max(x, 0); derivative 0 at the kink x = 0. A NaN stays a NaN"""
    return xp.maximum(x, 0)


relu.rule("x", lambda g, out: g * (out > 0))


@op(promote="same")
def leaky_relu(xp, x, *, negative_slope=0.01):
    """out = x where x > 0, else negative_slope * x, also at the kink (Maas et al. 2013)"""
    return xp.where(x > 0, x, negative_slope * x)


leaky_relu.rule("x", lambda xp, g, x, negative_slope: xp.where(x > 0, g, negative_slope * g))


@op(promote="equal")
def _prelu(xp, x, weight):
    return xp.where(x > 0, x, weight * x)


_prelu.rule("x", lambda xp, g, x, weight: xp.where(x > 0, g, weight * g))
_prelu.rule("weight", lambda xp, g, x: xp.where(x > 0, 0, g * x))


def prelu(input, weight):
    """x where x > 0, else weight * x; weight (1,), or one per channel, dim 1 (He et al. 2015)"""
    n, shape = weight.array.size, tuple(input.array.shape)
    channels = shape[1] if len(shape) > 1 else 1
    if weight.array.ndim > 1 or n not in (1, channels):
        raise ShapeError(
            f"prelu: input {shape} and weight {tuple(weight.array.shape)}: weight must be a "
            f"vector of 1 or of {channels}, the channels of input (dim 1)"
        )
    lead = (n,) + (1,) * (len(shape) - 2) if len(shape) > 1 else (n,) if shape else ()
    return _prelu(input, reshape(weight, lead))


@op(promote="same")
def threshold(xp, x, *, threshold, value):
    """out = x where x > threshold, else value"""
    return xp.where(x <= threshold, value, x).astype(x.dtype)


threshold.rule("x", lambda xp, g, x, threshold: xp.where(x <= threshold, 0, g))


@op(promote="same")
def elu(xp, x, *, alpha=1.0):
    """out = x where x > 0, else alpha (e^x - 1) (Clevert et al. 2015)"""
    return _exponential_unit(xp, x, 1.0, alpha, 1.0)


@op(promote="same")
def celu(xp, x, *, alpha=1.0):
    """out = x where x > 0, else alpha (e^(x/alpha) - 1): smooth at 0 (Barron 2017)"""
    return _exponential_unit(xp, x, 1.0, alpha, 1 / alpha)


_ALPHA, _SCALE = 1.6732632423543772, 1.0507009873554805


@op(promote="same")
def selu(xp, x):
    """out = 1.0507 (x where x > 0, else 1.6733 (e^x - 1)): keeps mean 0 and variance 1
    (Klambauer et al. 2017)"""
    return _exponential_unit(xp, x, _SCALE, _SCALE * _ALPHA, 1.0)


def _exponential_unit(xp, x, scale, alpha, rate):
    below = xp.where(x > 0, 0, x)  # no exponential overflows where it is not wanted
    return xp.where(x > 0, scale * x, alpha * xp.expm1(rate * below))


def _exponential_slope(xp, g, x, scale, alpha, rate):
    below = xp.where(x > 0, 0, x)
    return xp.where(x > 0, scale * g, g * (alpha * rate * xp.exp(rate * below)))


elu.rule("x", lambda xp, g, x, alpha: _exponential_slope(xp, g, x, 1.0, alpha, 1.0))
celu.rule("x", lambda xp, g, x, alpha: _exponential_slope(xp, g, x, 1.0, alpha, 1 / alpha))
selu.rule("x", lambda xp, g, x: _exponential_slope(xp, g, x, _SCALE, _SCALE * _ALPHA, 1.0))

# ------------------------------------------------------------------------------ smooth

_C = math.sqrt(2 / math.pi)


@op(promote="float")
def gelu(xp, x, *, approximate="none"):
    """out = x * Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016).

    approximate='tanh': x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))), as GPT-2 uses it.
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    dtype, x = x.dtype, widened(x)
    if approximate == "tanh":
        return narrowed(0.5 * x * (1 + xp.tanh(_C * (x + 0.044715 * (x * x * x)))), dtype)
    return narrowed(0.5 * x * (1 + erf.on(xp, x * math.sqrt(0.5))), dtype)


@gelu.rule("x")
def _(xp, g, x, approximate):
    dtype, x = x.dtype, widened(x)
    if approximate == "tanh":
        t = xp.tanh(_C * (x + 0.044715 * (x * x * x)))
        du = _C * (1 + 3 * 0.044715 * (x * x))
        return narrowed(g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * du), dtype)
    Phi = 0.5 * (1 + erf.on(xp, x * math.sqrt(0.5)))
    phi = math.sqrt(0.5 / math.pi) * xp.exp(-0.5 * (x * x))
    return narrowed(g * (Phi + x * phi), dtype)  # d(x Phi)/dx, since Phi' = phi


@op(promote="float")
def silu(xp, x):
    """out = x * sigmoid(x)"""
    return x * sigmoid.on(xp, x)


@silu.rule("x")
def _(xp, g, x):
    s = sigmoid.on(xp, x)
    return g * (s * (1 + x * (1 - s)))


@op(promote="same")
def softplus(xp, x, *, beta=1.0, threshold=20.0):
    """out = ln(1 + e^(beta x)) / beta, and x itself where beta x > threshold"""
    z = beta * x
    return xp.where(z > threshold, x, xp.log1p(xp.exp(xp.minimum(z, threshold))) / beta)


@softplus.rule("x")
def _(xp, g, x, beta, threshold):
    z = beta * x
    return xp.where(z > threshold, g, g * sigmoid.on(xp, z))


@op(promote="same")
def logsigmoid(xp, x):
    """out = ln(sigmoid(x)) = min(x, 0) - ln(1 + e^-|x|)"""
    return xp.minimum(x, 0) - xp.log1p(xp.exp(-xp.abs(x)))


logsigmoid.rule("x", lambda xp, g, x: g * sigmoid.on(xp, -x))


@op(promote="float")
def softsign(xp, x):
    """out = x / (1 + |x|)"""
    return x / (1 + xp.abs(x))


softsign.rule("x", lambda xp, g, x: g / (1 + xp.abs(x)) ** 2)


@op(promote="same")
def mish(xp, x):
    """out = x tanh(ln(1 + e^x)) (Misra 2019)"""
    return x * xp.tanh(softplus.on(xp, x))


@mish.rule("x")
def _(xp, g, x):
    t = xp.tanh(softplus.on(xp, x))
    return g * (t + x * (1 - t * t) * sigmoid.on(xp, x))


def tanhshrink(input):
    """input - tanh(input)"""
    return sub(input, tanh(input))


def glu(input, dim=-1):
    """a * sigmoid(b), a and b the halves of input along dim (Dauphin et al. 2016)"""
    shape = tuple(input.array.shape)
    if not shape:
        raise ShapeError("glu: a 0-d tensor has no halves")
    n = shape[canonical(dim, len(shape))]
    if n % 2:
        raise ShapeError(f"glu: input {shape}: dim {dim} has {n} elements, it must be even")
    a, b = chunk(input, 2, dim)
    return mul(a, sigmoid(b))


# ------------------------------------------------------------------------------ with flat parts


@op(promote="same")
def hardtanh(xp, x, *, min_val=-1.0, max_val=1.0):
    """out = x between min_val and max_val, held there; derivative 0 at both kinks"""
    if min_val > max_val:
        raise ArgumentError(f"hardtanh: min_val {min_val} is above max_val {max_val}")
    return xp.minimum(xp.maximum(x, min_val), max_val).astype(x.dtype)


@hardtanh.rule("x")
def _(xp, g, x, min_val, max_val):
    return xp.where((x <= min_val) | (x >= max_val), 0, g)


def relu6(input):
    """min(max(input, 0), 6); derivative 0 at both kinks (Howard et al. 2017)"""
    return hardtanh(input, 0, 6)


@op(promote="same")
def hardsigmoid(xp, x):
    """out = min(max(x + 3, 0), 6) / 6; derivative 0 at both kinks"""
    return xp.minimum(xp.maximum(x + 3, 0), 6) / 6


hardsigmoid.rule("x", lambda xp, g, x: xp.where((x > -3) & (x < 3), g / 6, 0))


@op(promote="same")
def hardswish(xp, x):
    """out = x min(max(x + 3, 0), 6) / 6; derivative 0 at -3 and 1 at 3 (Howard et al. 2019)"""
    return x * xp.minimum(xp.maximum(x + 3, 0), 6) / 6


@hardswish.rule("x")
def _(xp, g, x):
    return xp.where(x <= -3, 0, xp.where(x < 3, g * (x / 3 + 0.5), g))


@op(promote="same")
def hardshrink(xp, x, *, lambd=0.5):
    """out = x where |x| > lambd, else 0"""
    return xp.where((x >= -lambd) & (x <= lambd), 0, x)


hardshrink.rule("x", lambda xp, g, x, lambd: xp.where((x >= -lambd) & (x <= lambd), 0, g))


@op(promote="same")
def softshrink(xp, x, *, lambd=0.5):
    """out = x - lambd where x > lambd, x + lambd where x < -lambd, else 0"""
    if lambd < 0:
        raise ShapeError(f"softshrink: lambd must not be negative, got {lambd}")
    return x - xp.minimum(xp.maximum(x, -lambd), lambd)


softshrink.rule("x", lambda xp, g, x, lambd: xp.where((x >= -lambd) & (x <= lambd), 0, g))
