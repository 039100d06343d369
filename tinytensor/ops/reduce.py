"""Reductions: sum, mean, max and their kin, over all dimensions or over `dim`.

`dim` is None (all), an int or a tuple; `keepdim` leaves reduced dimensions with size 1.
"""

from __future__ import annotations

import builtins
import math
from typing import Any, NamedTuple

from .. import dtypes
from ..autograd import Variable
from ..errors import ArgumentError, DtypeError, ShapeError
from ..op import op
from .elementwise import cast, maximum, minimum
from .index import gather
from .shape import canonical, squeeze


def axes_of(dim, ndim):
    """dim, as a user writes it, as NumPy's axis: None, or a tuple. A 0-d tensor has dims 0, -1."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return None  # (), as in PyTorch, means all
    dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    if ndim == 0 and not set(dims) - {0, -1}:
        return None
    return dims


def spread(xp, g, x_shape, dim, keepdim):
    """g of a reduction over x's shape again: the transpose of a sum."""
    axes = axes_of(dim, len(x_shape))
    if axes is not None and not keepdim:
        g = xp.expand_dims(g, tuple(sorted(a % len(x_shape) for a in axes)))
    return xp.broadcast_to(g, x_shape)


def count(x_shape, dim):
    """How many elements are reduced to one."""
    axes = axes_of(dim, len(x_shape))
    return math.prod(x_shape if axes is None else [x_shape[a] for a in axes])


@op
def sum(xp, x, *, dim=None, keepdim=False, dtype=None):
    """out = sum of x over dim. Integers and bools add up in int64, or in `dtype`."""
    if dtype is None and x.dtype.kind in "bui":
        dtype = dtypes.int64
    return x.sum(axis=axes_of(dim, x.ndim), keepdims=keepdim, dtype=dtype)


@sum.rule("x")
def _(xp, g, x_shape, x_dtype, dim, keepdim):
    g = spread(xp, g, x_shape, dim, keepdim)
    return g if g.dtype == x_dtype else g.astype(x_dtype)


@op
def _mean(xp, x, *, dim=None, keepdim=False):
    return x.mean(axis=axes_of(dim, x.ndim), keepdims=keepdim)


_mean.rule(
    "x",
    lambda xp, g, x_shape, dim, keepdim: (
        spread(xp, g, x_shape, dim, keepdim) / builtins.max(count(x_shape, dim), 1)
    ),
)


def mean(x, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
    """out = sum of x over dim / how many they are. Floats only: integers need `dtype`."""
    if dtype is not None:
        x = cast(x, dtype=dtypes.np.dtype(dtype))
    if x.array.dtype.kind not in "fV":
        raise DtypeError(
            f"mean: x is {x.array.dtype}, a mean needs floats: x.float().mean() or dtype=tt.float32"
        )
    return _mean(x, *_spelled(dim, keepdim, axis, keepdims))


def _spelled(dim, keepdim, axis, keepdims):
    """NumPy's names for dim and keepdim serve as well."""
    return (dim if axis is None else axis), (keepdim if keepdims is None else keepdims)


@op(promote="same")
def _var(xp, x, *, dim=None, correction=1, keepdim=False):
    mean = x.mean(axis=axes_of(dim, x.ndim), keepdims=True)
    freedom = builtins.max(count(x.shape, dim) - correction, 0)
    total = ((x - mean) ** 2).sum(axis=axes_of(dim, x.ndim), keepdims=keepdim)
    return total / freedom if freedom else total / (0 * total)  # 0/0, as in PyTorch


@_var.rule("x")
def _(xp, g, x, dim, correction, keepdim):
    axes, freedom = axes_of(dim, x.ndim), builtins.max(count(x.shape, dim) - correction, 0)
    centred = x - x.mean(axis=axes, keepdims=True)
    g = spread(xp, g, x.shape, dim, keepdim)
    return g * centred * ((2 / freedom) if freedom else math.nan)


@op(promote="same")
def _std(xp, x, *, dim=None, correction=1, keepdim=False):
    return xp.sqrt(_var.on(xp, x, dim=dim, correction=correction, keepdim=keepdim))


@_std.rule("x")
def _(xp, g, x, out, dim, correction, keepdim):  # d sqrt(v) = dv / (2 sqrt v), 0 at v = 0
    axes, freedom = axes_of(dim, x.ndim), builtins.max(count(x.shape, dim) - correction, 0)
    flat = out == 0
    g = xp.where(flat, xp.zeros_like(g), g / xp.where(flat, xp.ones_like(out), out))
    centred = x - x.mean(axis=axes, keepdims=True)
    g = spread(xp, g, x.shape, dim, keepdim)
    return g * centred * ((1 / freedom) if freedom else math.nan)


def var(x, dim=None, unbiased=None, keepdim=False, *, correction=None, axis=None, keepdims=None):
    """out = sum of (x - mean)^2 over dim / (n - correction); correction is 1, Bessel's."""
    return _spread_of(_var, "var", x, dim, unbiased, keepdim, correction, axis, keepdims)


def std(x, dim=None, unbiased=None, keepdim=False, *, correction=None, axis=None, keepdims=None):
    """out = sqrt(var(x)); derivative 0 where it is 0."""
    return _spread_of(_std, "std", x, dim, unbiased, keepdim, correction, axis, keepdims)


def _spread_of(which, name, x, dim, unbiased, keepdim, correction, axis, keepdims):
    if isinstance(dim, bool):  # x.var(False): PyTorch's old order, unbiased first
        dim, unbiased = None, dim
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"{name}: x is {x.array.dtype}, {name} needs floats: x.float()")
    dim, keepdim = _spelled(dim, keepdim, axis, keepdims)
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    return which(x, dim, correction, keepdim)


# ------------------------------------------------------------------------------ extremes


@op
def amax(xp, x, *, dim=None, keepdim=False):
    """out = the largest x over dim; equal largest ones share the gradient"""
    _check_not_empty("amax", x, dim)
    return x.max(axis=axes_of(dim, x.ndim), keepdims=keepdim)


@op
def amin(xp, x, *, dim=None, keepdim=False):
    """out = the smallest x over dim; equal smallest ones share the gradient"""
    _check_not_empty("amin", x, dim)
    return x.min(axis=axes_of(dim, x.ndim), keepdims=keepdim)


def _check_not_empty(name, x, dim):
    if x.size == 0 and 0 in [n for d, n in enumerate(x.shape) if _reduces(dim, d, x.ndim)]:
        raise DimErrorEmpty(f"{name}: x {x.shape} has no elements to choose from along dim {dim}")


def _reduces(dim, d, ndim):
    axes = axes_of(dim, ndim)
    return axes is None or d in axes or d - ndim in axes


def _share(xp, g, x, out, dim, keepdim):
    hit = (x == spread(xp, out, x.shape, dim, keepdim)).astype(g.dtype)
    ties = hit.sum(axis=axes_of(dim, x.ndim), keepdims=True)
    return spread(xp, g, x.shape, dim, keepdim) * hit / ties


amax.rule("x", _share)
amin.rule("x", _share)


@op(differentiable=False)
def argmax(xp, x, *, dim=None, keepdim=False):
    """out = the index of the (first) largest x along dim; over the flat tensor if dim is None"""
    return _arg(xp.argmax, x, dim, keepdim)


@op(differentiable=False)
def argmin(xp, x, *, dim=None, keepdim=False):
    """out = the index of the (first) smallest x along dim; over the flat tensor if dim is None"""
    return _arg(xp.argmin, x, dim, keepdim)


def _arg(f, x, dim, keepdim):
    _check_not_empty(f.__name__, x, dim)
    axes = axes_of(dim, x.ndim)
    out = f(x, axis=None if axes is None else axes[0])
    if keepdim:
        shape = [1] * x.ndim if axes is None else list(x.shape)
        if axes is not None:
            shape[axes[0]] = 1
        out = out.reshape(shape)
    return out


class DimErrorEmpty(ShapeError, IndexError):
    """An extreme of nothing."""


class ValuesAndIndices(NamedTuple):
    """What max, min, topk and sort along a dim return."""

    values: Any
    indices: Any


def max(x, dim=None, keepdim=False, *, axis=None, keepdims=None):
    """max(x): the largest element. max(x, dim): values and indices. max(x, y): elementwise."""
    return _extreme(amax, argmax, maximum, x, *_spelled(dim, keepdim, axis, keepdims))


def min(x, dim=None, keepdim=False, *, axis=None, keepdims=None):
    """min(x): the smallest element. min(x, dim): values and indices. min(x, y): elementwise."""
    return _extreme(amin, argmin, minimum, x, *_spelled(dim, keepdim, axis, keepdims))


def _extreme(whole, where, pairwise, x, dim, keepdim):
    if dim is None:
        if x.array.size == 0:
            raise ShapeError(
                f"{whole.op.name[1:]}: x {tuple(x.array.shape)} is empty: pass dim, or test numel()"
            )
        return whole(x)
    if isinstance(dim, Variable):
        return pairwise(x, dim)
    if isinstance(dim, (tuple, list)):
        raise ArgumentError(f"{whole.op.name[1:]}: dim must be one int: use {whole.op.name}")
    if x.array.ndim == 0:
        return ValuesAndIndices(whole(x), where(x, dim))
    index = where(x, dim, True)
    values = gather(x, dim, index)
    if not keepdim:
        values, index = squeeze(values, dim), squeeze(index, dim)
    return ValuesAndIndices(values, index)


@op(promote="float")
def logsumexp(xp, x, *, dim, keepdim=False):
    """out = ln(sum of e^x over dim), shifted by the largest x so that nothing overflows"""
    axes = axes_of(dim, x.ndim)
    top = x.max(axis=axes, keepdims=True) if x.size else x.sum(axis=axes, keepdims=True)
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
    with _quiet(xp):
        out = xp.log(xp.exp(x - top).sum(axis=axes, keepdims=True)) + top
    return out if keepdim or axes is None and not x.ndim else _drop(out, axes)


def _drop(out, axes):
    return out.squeeze(axis=axes)


def _quiet(xp):
    import numpy as np

    return np.errstate(divide="ignore")


@logsumexp.rule("x")
def _(xp, g, x, out, dim, keepdim):  # dL/dx = g * softmax(x)
    out = spread(xp, out, x.shape, dim, keepdim)
    return spread(xp, g, x.shape, dim, keepdim) * xp.exp(x - out)


@op(differentiable=False)
def all(xp, x, *, dim=None, keepdim=False):
    """out = whether every x over dim is true (not zero)"""
    return _truth(xp.all(x, axis=axes_of(dim, x.ndim), keepdims=keepdim), x)


@op(differentiable=False)
def any(xp, x, *, dim=None, keepdim=False):
    """out = whether some x over dim is true (not zero)"""
    return _truth(xp.any(x, axis=axes_of(dim, x.ndim), keepdims=keepdim), x)


def _truth(out, x):
    """Bools, but uint8 for uint8: from before PyTorch had bools."""
    return out.astype(x.dtype) if x.dtype == dtypes.uint8 else out


@op(promote="same")
def cumsum(xp, x, *, dim, dtype=None):
    """out[i] = x[0] + ... + x[i] along dim"""
    if dtype is None and x.dtype.kind in "bui":
        dtype = dtypes.int64
    canonical(dim, x.ndim)
    if x.ndim == 0:
        return x.astype(x.dtype if dtype is None else dtype)
    return xp.cumsum(x, axis=dim, dtype=dtype)


@cumsum.rule("x")
def _(xp, g, dim, x_dtype):  # each x[i] is in every out[j], j >= i: a sum from the end
    g = g if g.dtype == x_dtype else g.astype(x_dtype)
    return g if g.ndim == 0 else xp.flip(cumsum.on(xp, xp.flip(g, (dim,)), dim=dim), (dim,))


