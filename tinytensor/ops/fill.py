"""Filling a tensor's memory: with random numbers of a distribution, or a diagonal with one value.

All return the tensor itself; its history ends here. Each distribution by the inverse of its
distribution function F, from u uniform in (0, 1): F^-1(u).
"""

from __future__ import annotations

import math

import numpy as np

from .. import random
from ..autograd import Variable, wrap
from ..backend import namespace_of, on_its_device
from ..errors import ArgumentError, DtypeError, ShapeError
from .inplace import assign, setitem


@on_its_device
def _drawn(x, name, generator, function, words=1):
    key = (generator or random.default_generator).reserve(words * x.array.size)
    xp = namespace_of(x.array)
    values = xp.asarray(function(xp, key, x.array.shape))
    return assign(x, wrap(values.astype(x.array.dtype)), name)


def _by_inverse(x, name, generator, inverse):
    """inverse(xp, u), u uniform in (0, 1)"""
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"{name}: x is {x.array.dtype}, floats are needed")

    def function(xp, key, shape):
        return inverse(xp, random.uniform(xp, key, shape, np.float64) + 2.0**-54)

    return _drawn(x, name, generator, function)


def uniform_(x, low=0.0, high=1.0, *, generator=None):
    """Uniform in [low, high)"""
    if low > high:
        raise ShapeError(f"uniform_: from {low} to {high}: the first must not be the larger")
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"uniform_: x is {x.array.dtype}, floats are needed")
    dtype = x.array.dtype
    return _drawn(
        x, "uniform_", generator,
        lambda xp, key, shape: random.uniform(xp, key, shape, dtype) * (high - low) + low,
    )  # fmt: skip


def normal_(x, mean=0.0, std=1.0, *, generator=None):
    """Normal with that mean and standard deviation"""
    if std < 0:
        raise ShapeError(f"normal_: std must not be negative, got {std}")
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"normal_: x is {x.array.dtype}, floats are needed")
    dtype = x.array.dtype
    return _drawn(
        x, "normal_", generator,
        lambda xp, key, shape: random.normal(xp, key, shape, dtype) * std + mean, words=2,
    )  # fmt: skip


def log_normal_(x, mean=1.0, std=2.0, *, generator=None):
    """e^n, n normal with that mean and standard deviation"""
    if std <= 0:
        raise ShapeError(f"log_normal_: std must be positive, got {std}")
    return _drawn(
        x, "log_normal_", generator,
        lambda xp, key, shape: xp.exp(random.normal(xp, key, shape, np.float64) * std + mean),
        words=2,
    )  # fmt: skip


def exponential_(x, lambd=1.0, *, generator=None):
    """Density lambd e^(-lambd x), x >= 0"""
    if lambd <= 0:
        raise ShapeError(f"exponential_: lambd must be positive, got {lambd}")
    return _by_inverse(x, "exponential_", generator, lambda xp, u: -xp.log(u) / lambd)


def cauchy_(x, median=0.0, sigma=1.0, *, generator=None):
    """Density sigma / (pi ((x - median)^2 + sigma^2))"""
    if sigma <= 0:
        raise ShapeError(f"cauchy_: sigma must be positive, got {sigma}")
    inverse = lambda xp, u: median + sigma * xp.tan(math.pi * (u - 0.5))  # noqa: E731
    return _by_inverse(x, "cauchy_", generator, inverse)


def geometric_(x, p, *, generator=None):
    """How many tries until the first success, each of probability p: 1, 2, ..."""
    if not 0 < p < 1:
        raise ShapeError(f"geometric_: p must be in (0, 1), got {p}")

    def function(xp, key, shape):
        u = random.uniform(xp, key, shape, np.float64) + 2.0**-54
        return xp.ceil(xp.log(u) / math.log1p(-p))

    return _drawn(x, "geometric_", generator, function)


def bernoulli_(x, p=0.5, *, generator=None):
    """1 with probability p (a number, or a tensor that broadcasts to x), else 0"""
    if not isinstance(p, Variable) and not 0 <= p <= 1:
        raise ShapeError(f"bernoulli_: p must be in [0, 1], got {p}")
    chance = p.array if isinstance(p, Variable) else p
    return _drawn(
        x, "bernoulli_", generator,
        lambda xp, key, shape: random.uniform(xp, key, shape, np.float64) < chance,
    )  # fmt: skip


def random_(x, low=0, high=None, *, generator=None):
    """Uniform integers, low <= n < high; random_(high) starts at 0; without bounds all that fit"""
    if high is None and low:
        low, high = 0, low
    if high is None:
        kind, dtype = x.array.dtype.kind, x.array.dtype
        if kind in "fV":  # the integers that the mantissa holds
            high = 2 ** (np.finfo(dtype).nmant + 1) + 1
        else:
            high = 2 if kind == "b" else min(int(np.iinfo(dtype).max), 2**63 - 2) + 1
    if high <= low:
        raise ShapeError(f"random_: from {low} to {high}: the second must be the larger")
    return _drawn(
        x, "random_", generator,
        lambda xp, key, shape: random.integers(xp, key, shape, low, high),
    )  # fmt: skip


def fill_diagonal_(x, value, wrap=False):
    """value on the main diagonal, of all dims; wrap starts again below, for tall matrices"""
    shape = x.array.shape
    if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) > 1):
        raise ShapeError(f"fill_diagonal_: x {tuple(shape)} must be a matrix, or a cube")
    if not isinstance(value, (int, float)):
        raise ArgumentError(f"fill_diagonal_: value must be a number, got {type(value).__name__}")
    step = sum(math.prod(shape[d + 1 :]) for d in range(len(shape)))
    stop = x.array.size if wrap or len(shape) > 2 else shape[1] * shape[1]
    places = np.unravel_index(np.arange(0, min(stop, x.array.size), step), shape)
    setitem(x, places, value)
    return x
