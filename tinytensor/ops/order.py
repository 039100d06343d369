"""Order statistics: median, k-th value, quantiles; distinct values and counts."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..autograd import Variable, wrap
from ..errors import DimError, DtypeError, ShapeError
from ..op import op
from .arithmetic import lerp
from .elementwise import cast, ne, where
from .index import argsort, gather, sort
from .reduce import DimErrorEmpty, ValuesAndIndices, amax, amin, sum
from .rounding import ceil, floor, round
from .shape import canonical, movedim, reshape, squeeze, unsqueeze

# ------------------------------------------------------------------------------ one of the values


def _select(x, dim, keepdim, index):
    """x at index (of size 1 along dim), and the index."""
    values = gather(x, dim, index)
    if not keepdim and x.array.ndim:
        values, index = squeeze(values, dim), squeeze(index, dim)
    return ValuesAndIndices(values, index)


def kthvalue(x, k, dim=-1, keepdim=False):
    """The k-th smallest x along dim, counted from 1, and its index"""
    d = canonical(dim, x.array.ndim)
    n = x.array.shape[d] if x.array.ndim else 1
    if not 1 <= k <= n:
        raise KthError(f"kthvalue: k = {k} is out of range: 1 to {n}, the size of dim {dim}")
    return _select(x, d, keepdim, _nth(x, dim=d, n=k - 1))


class KthError(ShapeError, DimError):
    """A rank beyond the number of values."""


@op(differentiable=False)
def _nth(xp, x, *, dim, n):
    """The index of the n-th smallest along dim, which keeps size 1."""
    if x.ndim == 0:
        return xp.zeros((), np.int64)
    return argsort.on(xp, x, dim=dim)[(slice(None),) * dim + (slice(n, n + 1),)]


@op(differentiable=False)
def _middle(xp, x, *, dim, ignore_nan):
    """The index of the (lower) median along dim; a NaN is the median, or is left out."""
    if x.ndim == 0:
        return xp.zeros((), np.int64)
    order = argsort.on(xp, x, dim=dim)  # NaNs come last
    n = x.shape[dim]
    place = xp.full([1 if k == dim else m for k, m in enumerate(x.shape)], (n - 1) // 2)
    if x.dtype.kind in "fV":
        numbers = n - xp.isnan(x).sum(axis=dim, keepdims=True)
        if ignore_nan:
            place = xp.maximum(numbers - 1, 0) // 2
        else:
            place = xp.where(numbers < n, numbers, place)  # the first NaN
    return xp.take_along_axis(order, place, dim)


def median(x, dim=None, keepdim=False):
    """The middle of x when sorted, the lower one of two; with dim also its index. NaN if any is"""
    return _median("median", x, dim, keepdim, False)


def nanmedian(x, dim=None, keepdim=False):
    """The median of what is not NaN"""
    return _median("nanmedian", x, dim, keepdim, True)


@backend.on_its_device
def _median(name, x, dim, keepdim, ignore_nan):
    if x.array.dtype.kind == "b":
        raise DtypeError(f"{name}: x is bool: cast it with .to(tt.int64)")
    if dim is None:
        flat = reshape(x, -1)
        if x.array.size == 0:
            return wrap(backend.namespace_of(x.array).full((), _empty_median(x), x.array.dtype))
        return squeeze(gather(flat, 0, _middle(flat, 0, ignore_nan)), 0)
    d = canonical(dim, x.array.ndim)
    if x.array.ndim and x.array.shape[d] == 0:
        raise DimError(f"{name}: x {tuple(x.array.shape)} has no elements along dim {dim}")
    return _select(x, d, keepdim, _middle(x, d, ignore_nan))


def _empty_median(x):
    return math.nan if x.array.dtype.kind in "fV" else np.iinfo(x.array.dtype).min


@backend.on_its_device
def quantile(x, q, dim=None, keepdim=False, *, interpolation="linear"):
    """The value below which a fraction q of x (along dim) lies: between neighbours, linearly.

    q may be a number or a vector; its dimension then comes first. NaN where any x is NaN.
    """
    modes = {"linear", "lower", "higher", "nearest", "midpoint"}
    if interpolation not in modes:
        raise ShapeError(f"quantile: interpolation must be one of {sorted(modes)}")
    if not isinstance(q, Variable):
        q = wrap(backend.namespace_of(x.array).asarray(q, x.array.dtype))
    if x.array.dtype.kind not in "fV" or q.array.dtype != x.array.dtype:
        raise DtypeError(f"quantile: x {x.array.dtype} and q {q.array.dtype} must be equal floats")
    if x.array.size == 0:
        raise ShapeError("quantile: x is empty")
    if q.array.ndim > 1 or not ((q.array >= 0) & (q.array <= 1)).all():
        raise ShapeError("quantile: q must be a number or a vector of numbers between 0 and 1")
    ndim = x.array.ndim
    rows = movedim(x, dim, -1) if dim is not None and ndim else reshape(x, -1)
    ordered = sort(rows, -1).values
    n = rows.array.shape[-1]
    place = reshape(q, -1) * (n - 1)
    low, high = floor(place), ceil(place)
    weight = {
        "linear": place - low, "lower": place * 0, "higher": place * 0 + 1,
        "nearest": round(place) - low, "midpoint": place * 0 + 0.5,
    }[interpolation]  # fmt: skip
    out = lerp(*[ordered[..., cast(p, dtype=np.dtype(np.int64))] for p in (low, high)], weight)
    xp = backend.namespace_of(x.array)
    dirty = xp.isnan(rows.array).any(axis=-1, keepdims=True)
    if dirty.any():
        out = where(wrap(dirty), math.nan, out)
    out = movedim(out, -1, 0) if q.array.ndim else squeeze(out, -1)
    if keepdim and ndim:
        lead = 1 if q.array.ndim else 0
        if dim is None:
            return reshape(out, (*out.array.shape[:lead], *[1] * ndim))
        return unsqueeze(out, canonical(dim, ndim) + lead)
    return out


def msort(x):
    """x sorted along dim 0"""
    return sort(x, 0).values if x.array.ndim else x.clone()


# ------------------------------------------------------------------------------ distinct values


@backend.on_its_device
def unique(x, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The distinct values of x in order; on request where each x is among them, and how often.

    With dim, distinct slices. Always sorted.
    """
    xp = backend.namespace_of(x.array)
    array, inverse_shape = x.array, x.array.shape
    if dim is not None:
        d = canonical(dim, x.array.ndim)
        inverse_shape = (x.array.shape[d],)
        out = xp.unique(array, axis=d, return_inverse=True, return_counts=True)
    else:
        out = xp.unique(array.reshape(-1), return_inverse=True, return_counts=True)
    values, inverse, counts = out
    result = [wrap(values)]
    if return_inverse:
        result.append(wrap(inverse.reshape(inverse_shape).astype(np.int64)))
    if return_counts:
        result.append(wrap(counts.astype(np.int64)))
    return result[0] if len(result) == 1 else tuple(result)


@backend.on_its_device
def unique_consecutive(x, return_inverse=False, return_counts=False, dim=None):
    """x without what equals its predecessor; on request where each x went, and how often"""
    xp = backend.namespace_of(x.array)
    d = 0 if dim is None else canonical(dim, x.array.ndim)
    rows = xp.moveaxis(x.array.reshape(-1) if dim is None else x.array, d, 0)
    flat = rows.reshape(rows.shape[0], math.prod(rows.shape[1:]))
    new = xp.ones(rows.shape[0], bool)
    new[1:] = (flat[1:] != flat[:-1]).any(axis=1)
    shape = x.array.shape if dim is None else rows.shape[:1]
    result = [wrap(xp.moveaxis(rows[new], 0, d))]
    if return_inverse:
        result.append(wrap((xp.cumsum(new) - 1).reshape(shape).astype(np.int64)))
    if return_counts:
        edges = xp.concatenate([xp.nonzero(new)[0], xp.asarray([rows.shape[0]])])
        result.append(wrap(xp.diff(edges).astype(np.int64)))
    return result[0] if len(result) == 1 else tuple(result)


@backend.on_its_device
def bincount(x, weights=None, minlength=0):
    """out[v] = how often v is among x, a vector of integers >= 0; or the sum of its weights"""
    if x.array.ndim != 1 or x.array.dtype.kind not in "iu":
        raise DtypeError(f"bincount: x must be a vector of integers, got {tuple(x.array.shape)}")
    if minlength < 0 or (x.array.size and x.array.min() < 0):
        raise ShapeError("bincount: x and minlength must not be negative")
    xp = backend.namespace_of(x.array)
    if weights is None:
        return wrap(xp.bincount(x.array, minlength=minlength).astype(np.int64))
    dtype = weights.array.dtype if weights.array.dtype == np.float32 else np.dtype(np.float64)
    if x.array.shape != weights.array.shape:
        raise ShapeError("bincount: x and weights must have the same shape")
    return wrap(xp.bincount(x.array, weights.array, minlength).astype(dtype))


@backend.on_its_device
def searchsorted(
    sorted_sequence, values, *, out_int32=False, right=False, side=None, sorter=None
):
    """out = where values would be inserted into sorted_sequence to keep it sorted, per row

    right, or side='right': after the equal ones;  sorter: the indices that sort sorted_sequence
    """
    if side not in (None, "left", "right") or (right and side == "left"):
        raise ShapeError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    edges = sorted_sequence.array
    xp = backend.namespace_of(edges)
    if sorter is not None:
        edges = xp.take_along_axis(edges, sorter.array, -1)
    number = not isinstance(values, Variable)
    v = xp.asarray(values, edges.dtype) if number else values.array
    if edges.ndim > 1 and edges.shape[:-1] != v.shape[:-1]:
        raise ShapeError(
            f"searchsorted: sorted_sequence {tuple(edges.shape)} and values {tuple(v.shape)} must "
            "agree in all but the last dim, or sorted_sequence be a vector"
        )
    which = "right" if right or side == "right" else "left"
    if edges.ndim <= 1:
        out = xp.searchsorted(edges.reshape(-1), v, side=which)
    else:
        out = xp.zeros(v.shape, np.int64)
        for row in np.ndindex(*v.shape[:-1]):
            out[row] = xp.searchsorted(edges[row], v[row], side=which)
    return wrap(xp.asarray(out).astype(np.int32 if out_int32 else np.int64))


def bucketize(input, boundaries, *, out_int32=False, right=False):
    """out = the number of boundaries below (with right: at most) each input"""
    if boundaries.array.ndim != 1:
        raise ShapeError("bucketize: boundaries must be a vector")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def count_nonzero(x, dim=None):
    """How many of x (along dim) are not zero"""
    return sum(ne(x, 0), dim)


def aminmax(x, *, dim=None, keepdim=False):
    """The smallest and the largest of x, at once"""
    if x.array.size == 0 and (dim is None or x.array.shape[dim] == 0):
        raise DimErrorEmpty(f"aminmax: x {tuple(x.array.shape)} has no elements to choose from")
    if dim is not None:
        dim = canonical(dim, x.array.ndim)
    return MinAndMax(amin(x, dim=dim, keepdim=keepdim), amax(x, dim=dim, keepdim=keepdim))


class MinAndMax(NamedTuple):
    """What aminmax returns."""

    min: Any
    max: Any
