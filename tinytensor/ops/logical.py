"""True or false: logic, comparison with a tolerance, shifts of bits. Nothing differentiable."""

from __future__ import annotations

import math

import numpy as np

from .. import backend
from ..autograd import Variable
from ..errors import ArgumentError, DtypeError
from ..op import op


@op(promote="same", differentiable=False)
def logical_and(xp, x, y):
    """out = x and y; what is not 0 counts as true"""
    return xp.logical_and(x, y)


@op(promote="same", differentiable=False)
def logical_or(xp, x, y):
    """out = x or y; what is not 0 counts as true"""
    return xp.logical_or(x, y)


@op(promote="same", differentiable=False)
def logical_xor(xp, x, y):
    """out = either x or y, not both; what is not 0 counts as true"""
    return xp.logical_xor(x, y)


@op(differentiable=False)
def isposinf(xp, x):
    """out = x is plus infinity"""
    return x == math.inf


@op(differentiable=False)
def isneginf(xp, x):
    """out = x is minus infinity"""
    return x == -math.inf


@op(differentiable=False)
def isreal(xp, x):
    """out = x is a real number: all are, there are no complex tensors here"""
    return xp.ones(x.shape, bool)


@op(promote="same", differentiable=False)
def bitwise_left_shift(xp, x, y):
    """out = x * 2^y, for integers"""
    return x << y


@op(promote="same", differentiable=False)
def bitwise_right_shift(xp, x, y):
    """out = floor(x / 2^y), for integers"""
    return x >> y


@op(differentiable=False)
def _isclose(xp, x, y, *, rtol, atol, equal_nan):
    close = x == y  # infinities are close to themselves
    if x.dtype.kind in "fV":
        error, allowed = xp.abs(x - y), atol + xp.abs(rtol * y)
        close = close | (xp.isfinite(error) & (error <= allowed))
        return close | (xp.isnan(x) & xp.isnan(y)) if equal_nan else close
    if rtol == 0 and atol == 0:
        return close
    x, y = x.astype(np.float64), y.astype(np.float64)
    return close | (xp.abs(x - y) <= atol + xp.abs(rtol * y))


def isclose(x, y, rtol=1e-5, atol=1e-8, equal_nan=False):
    """out = |x - y| <= atol + rtol |y|; NaNs are close to each other only if equal_nan"""
    for name, a in (("x", x), ("y", y)):
        if not isinstance(a, Variable):
            raise ArgumentError(f"isclose: {name} must be a Tensor, got {type(a).__name__}")
    if x.array.dtype != y.array.dtype:
        raise DtypeError(
            f"isclose: x is {x.array.dtype} and y is {y.array.dtype}: cast one with .to(dtype)"
        )
    if rtol < 0 or atol < 0:
        raise ToleranceError(f"isclose: rtol {rtol} and atol {atol} must not be negative")
    return _isclose(x, y, rtol, atol, equal_nan)


class ToleranceError(ArgumentError, RuntimeError):
    """A negative tolerance."""


@backend.on_its_device
def allclose(x, y, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether all elements are close (see isclose), as a Python bool."""
    return bool(isclose(x, y, rtol, atol, equal_nan).array.all())


@backend.on_its_device
def equal(x, y):
    """Whether x and y have the same shape and the same elements, as a Python bool."""
    if not isinstance(x, Variable) or not isinstance(y, Variable):
        raise ArgumentError("equal: x and y must be Tensors")
    return x.array.shape == y.array.shape and bool((x.array == y.array).all())


@backend.on_its_device
def isin(elements, test_elements, *, assume_unique=False, invert=False):
    """out = whether each of elements is among test_elements"""
    from ..autograd import wrap

    arrays = [t.array if isinstance(t, Variable) else t for t in (elements, test_elements)]
    if not any(isinstance(t, Variable) for t in (elements, test_elements)):
        raise ArgumentError("isin: elements or test_elements must be a Tensor")
    xp = backend.namespace_of(next(a for a in arrays if hasattr(a, "dtype")))
    elements, test = (xp.asarray(a) for a in arrays)
    return wrap(xp.asarray(xp.isin(elements, test.reshape(-1), invert=invert)))
