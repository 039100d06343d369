"""Running sums, products and extremes along a dim, and the product over a dim.

All but the sum go by doubling (Hillis & Steele 1986): when each place has combined the d places
up to itself, joining it with the place d before makes that 2d; log2(n) steps, on any device.
"""

from __future__ import annotations

import math

import numpy as np

from .. import dtypes
from ..op import op
from .elementwise import cast
from .index import gather
from .reduce import ValuesAndIndices, axes_of, spread
from .shape import canonical


def _scan(xp, combine, parts, dim):
    """parts: arrays (or Tensors) that combine(earlier, later) joins, a tuple of as many."""
    n, d = parts[0].shape[dim], 1
    at = lambda s: (slice(None),) * dim + (s,)  # noqa: E731
    while d < n:
        before = tuple(p[at(slice(None, n - d))] for p in parts)
        here = tuple(p[at(slice(d, None))] for p in parts)
        joined = combine(before, here)
        parts = tuple(
            xp.concatenate([p[at(slice(None, d))], j], axis=dim) for p, j in zip(parts, joined)
        )
        d *= 2
    return parts


def _recurrence_from_end(xp, a, b, dim):
    """s[k] = b[k] + a[k] s[k+1], with s[n] = 0: steps of it compose to steps of the same form."""

    def join(later, earlier):  # b + a (b' + a' s) = (b + a b') + a a' s
        return earlier[0] * later[0], earlier[1] + earlier[0] * later[1]

    flipped = (xp.flip(a, (dim,)), xp.flip(b, (dim,)))
    return xp.flip(_scan(xp, join, flipped, dim)[1], (dim,))


def _shifted(xp, x, dim, by, fill):
    """x moved by +1 or -1 along dim; the free place holds `fill`."""
    at = lambda s: (slice(None),) * dim + (s,)  # noqa: E731
    edge = xp.ones_like(x[at(slice(0, 1))]) * fill
    kept = x[at(slice(None, -1))] if by > 0 else x[at(slice(1, None))]
    return xp.concatenate([edge, kept] if by > 0 else [kept, edge], axis=dim)


# ------------------------------------------------------------------------------ products


@op
def _cumprod(xp, x, *, dim):
    return xp.cumprod(x, axis=dim, dtype=x.dtype) if x.ndim else x.copy()


@_cumprod.rule("x")
def _(xp, g, x, dim):
    """dL/dx[k] = (x[0] ... x[k-1]) s[k],  s[k] = g[k] + x[k+1] s[k+1]: right at zeros as well."""
    if g.ndim == 0 or 0 in g.shape:
        return g
    before = _shifted(xp, _cumprod.on(xp, x, dim=dim), dim, 1, 1)
    return before * _recurrence_from_end(xp, _shifted(xp, x, dim, -1, 0), g, dim)


def cumprod(x, dim, *, dtype=None, axis=None):
    """out[i] = x[0] * ... * x[i] along dim. Integers multiply in int64, or in `dtype`."""
    return _cumprod(_summable(x, dtype), _one_dim(x, dim if axis is None else axis))


def _summable(x, dtype):
    if dtype is None and x.array.dtype.kind in "bui":
        dtype = dtypes.int64
    return x if dtype is None or x.array.dtype == dtype else cast(x, dtype=np.dtype(dtype))


def _one_dim(x, dim):
    return canonical(dim, x.array.ndim)


@op
def _prod(xp, x, *, dim=None, keepdim=False):
    return x.prod(axis=axes_of(dim, x.ndim), keepdims=keepdim, dtype=x.dtype)


@_prod.rule("x")
def _(xp, g, x, dim, keepdim):  # the product of the others: of those before times of those after
    shape, g = x.shape, spread(xp, g, x.shape, dim, keepdim)
    if not shape or 0 in shape:
        return g
    if dim is None:
        x, d = x.reshape((-1,)), 0
    else:
        d = dim % len(shape)
    before = _shifted(xp, _cumprod.on(xp, x, dim=d), d, 1, 1)
    reversed_ = _cumprod.on(xp, xp.flip(x, (d,)), dim=d)
    after = _shifted(xp, xp.flip(reversed_, (d,)), d, -1, 1)
    return g * (before * after).reshape(shape)


def prod(x, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
    """out = product of x over dim. Integers multiply in int64, or in `dtype`."""
    dim = dim if axis is None else axis
    if dim is not None:
        dim = _one_dim(x, dim)
    return _prod(_summable(x, dtype), dim, keepdim if keepdims is None else keepdims)


# ------------------------------------------------------------------------------ log-sums


@op(promote="float")
def _logcumsumexp(xp, x, *, dim):
    if x.ndim == 0:
        return x.copy()
    return _scan(xp, lambda a, b: (xp.logaddexp(a[0], b[0]),), (x,), dim)[0]


@_logcumsumexp.rule("x")
def _(xp, g, x, out, dim):
    """dL/dx[k] = e^(x[k] - out[k]) s[k],  s[k] = g[k] + e^(out[k] - out[k+1]) s[k+1]"""
    if g.ndim == 0 or 0 in g.shape:
        return g
    empty = out == -math.inf  # nothing has been added up yet: no weight
    safe = xp.where(empty, 0, out)
    more = _shifted(xp, xp.ones_like(x), dim, -1, 0)  # 0 in the last place
    ratio = xp.where(empty, 0, more * xp.exp(more * (safe - _shifted(xp, safe, dim, -1, 0))))
    s = _recurrence_from_end(xp, ratio, g, dim)
    return xp.where(empty, 0, xp.exp(xp.where(empty, 0, x) - safe) * s)


def logcumsumexp(x, dim):
    """out[i] = ln(e^x[0] + ... + e^x[i]) along dim, without overflow"""
    return _logcumsumexp(x, _one_dim(x, dim))


# ------------------------------------------------------------------------------ extremes


@op(differentiable=False)
def _where_extreme(xp, x, *, dim, largest):
    """The (last) index of the extreme among x[0] ... x[i]; a NaN is more extreme than all."""
    if x.ndim == 0:
        return xp.zeros((), np.int64)
    index = xp.arange(x.shape[dim]).reshape([-1 if k == dim else 1 for k in range(x.ndim)])
    index = xp.broadcast_to(index, x.shape)

    def later_wins(a, b):
        wins = (b[0] >= a[0]) if largest else (b[0] <= a[0])
        if x.dtype.kind in "fV":
            wins = xp.where(xp.isnan(a[0]), xp.isnan(b[0]), wins | xp.isnan(b[0]))
        return xp.where(wins, b[0], a[0]), xp.where(wins, b[1], a[1])

    return _scan(xp, later_wins, (x, index), dim)[1]


def _running(x, dim, largest):
    d = _one_dim(x, dim)
    index = _where_extreme(x, d, largest)
    return ValuesAndIndices(gather(x, d, index), index)


def cummax(x, dim):
    """The largest of x[0] ... x[i] along dim, and the last place where it stands"""
    return _running(x, dim, True)


def cummin(x, dim):
    """The smallest of x[0] ... x[i] along dim, and the last place where it stands"""
    return _running(x, dim, False)
