"""Lengths and distances: norms, normalize, cosine similarity, pairwise distance."""

from __future__ import annotations

import math

import numpy as np

from ..autograd import Variable
from ..errors import ArgumentError, DimError, DtypeError, ShapeError
from ..op import op
from .arrange import broadcast_tensors
from .elementwise import abs, cast, clamp, div, mul, narrowed, sub, widened
from .reduce import amax, amin, axes_of, spread, sum
from .shape import canonical, movedim, reshape, squeeze, unsqueeze
from .svd import svdvals

# ------------------------------------------------------------------------------ vectors


@op
def _p_norm(xp, x, *, ord, dim, keepdim):
    """out = (sum of |x|^p over dim)^(1/p); for p = 0 how many are not 0"""
    if x.dtype.itemsize == 2:  # half precision has no room for powers
        wide = x.astype(np.float32)
        return _p_norm.on(xp, wide, ord=ord, dim=dim, keepdim=keepdim).astype(x.dtype)
    axes = axes_of(dim, x.ndim)
    if ord == 0:
        return (x != 0).sum(axis=axes, keepdims=keepdim).astype(x.dtype)
    if ord == 2:
        return xp.sqrt((x * x).sum(axis=axes, keepdims=keepdim))
    size = xp.abs(x)
    if ord == 1:
        return size.sum(axis=axes, keepdims=keepdim)
    return (size**ord).sum(axis=axes, keepdims=keepdim) ** (1 / ord)


@_p_norm.rule("x")
def _(xp, g, x, out, ord, dim, keepdim):
    """g sign(x) (|x| / out)^(p - 1), and 0 at x = 0, where there is a kink"""
    dtype, x = x.dtype, widened(x)
    g, out = (spread(xp, widened(a), x.shape, dim, keepdim) for a in (g, out))
    if ord in (0, 1):
        return narrowed(g * xp.sign(x) * ord, dtype)
    flat = (out == 0) | (x == 0 if ord < 2 else False)
    ratio = xp.where(flat, 0, x / xp.where(flat, 1, out))
    if ord == 2:
        return narrowed(g * ratio, dtype)
    share = xp.abs(xp.where(flat, 1, ratio)) ** (ord - 2)
    return narrowed(g * ratio * share, dtype)


def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    """out = (sum of |x|^ord over dim)^(1/ord): the length of x as a vector

    inf: the largest |x|, -inf: the smallest, 0: how many are not 0. Derivative 0 at x = 0.
    """
    if dtype is not None:
        x = cast(x, dtype=dtype)
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"vector_norm: x is {x.array.dtype}, floats are needed: x.float()")
    if isinstance(dim, int):
        dim = (dim,)
    if dim is not None:
        dim = tuple(canonical(d, x.array.ndim) for d in dim) or None
        if dim is not None and len(set(dim)) != len(dim):
            raise ShapeError(f"vector_norm: dim {dim} names a dim twice")
    if ord == math.inf or ord == -math.inf:
        reduced = [x.array.shape[d] for d in (dim or range(x.array.ndim))] if x.array.ndim else []
        if 0 in reduced:
            raise EmptyNormError(f"vector_norm: x {tuple(x.array.shape)} has no largest element")
        return (amax if ord > 0 else amin)(abs(x), dim=dim, keepdim=keepdim)
    return _p_norm(x, ord, dim, keepdim)


class EmptyNormError(ShapeError, DimError):
    """An extreme of nothing."""


# ------------------------------------------------------------------------------ matrices


def matrix_norm(x, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None):
    """The norm of each matrix: 'fro' sqrt(sum x^2); 1, -1: largest, smallest column sum of |x|;
    inf, -inf: the same of rows; 2, -2: largest, smallest singular value; 'nuc': their sum"""
    if dtype is not None:
        x = cast(x, dtype=dtype)
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"matrix_norm: x is {x.array.dtype}, floats are needed: x.float()")
    if isinstance(dim, int) or len(dim) != 2:
        raise ShapeError(f"matrix_norm: dim must be two dims, got {dim}")
    if x.array.ndim < 2:
        raise ShapeError(f"matrix_norm: x {tuple(x.array.shape)} must have at least 2 dims")
    rows, columns = (canonical(d, x.array.ndim) for d in dim)
    if rows == columns:
        raise ShapeError(f"matrix_norm: dim {dim} must be two different dims")
    if ord == "fro":
        return vector_norm(x, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        return _by_singular_values(x, ord, rows, columns, keepdim)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ShapeError(f"matrix_norm: ord must be fro, nuc, inf, -inf, 1, -1, 2, -2, got {ord!r}")
    if math.isinf(ord):
        rows, columns = columns, rows
    sums = sum(abs(x), rows, keepdim=True)
    out = _extreme(x, sums, columns, ord)
    return out if keepdim else _dropped(out, rows, columns)


def _extreme(x, values, dim, ord):
    """The largest of values over dim, kept, or for a negative ord the smallest; of none 0."""
    if values.array.shape[dim]:
        return (amax if ord > 0 else amin)(values, dim=dim, keepdim=True)
    if ord < 0:
        raise EmptyNormError(f"matrix_norm: x {tuple(x.array.shape)} is empty: ord = {ord} of none")
    return sum(values, dim, True)


def _dropped(out, *dims):
    return reshape(out, [n for d, n in enumerate(out.array.shape) if d not in dims])


def _by_singular_values(x, ord, rows, columns, keepdim):
    values = svdvals(movedim(x, (rows, columns), (-2, -1)))
    if ord == "nuc":
        out = sum(values, -1)
    else:
        out = squeeze(_extreme(x, values, values.array.ndim - 1, ord), -1)
    if keepdim:
        for d in sorted((rows, columns)):
            out = unsqueeze(out, d)
    return out


def linalg_norm(x, ord=None, dim=None, keepdim=False, *, dtype=None):
    """vector_norm, or matrix_norm where ord is given and x (or dim) has two dims"""
    if dim is None and ord is not None and x.array.ndim not in (1, 2):
        raise ShapeError(f"linalg.norm: x has {x.array.ndim} dims: with ord, pass dim")
    two = (x.array.ndim == 2) if dim is None else (not isinstance(dim, int) and len(dim) == 2)
    if ord is not None and (two or isinstance(ord, str)):
        return matrix_norm(x, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return vector_norm(x, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


def norm(x, p="fro", dim=None, keepdim=False, dtype=None):
    """(sum of |x|^p over dim)^(1/p), of all of x if dim is None; 'fro' is p = 2; 'nuc': matrices"""
    if p == "nuc":
        if dim is None and x.array.ndim != 2:
            raise ShapeError("norm: 'nuc' needs a matrix, or dim")
        return matrix_norm(x, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    if isinstance(p, str) and p != "fro":
        raise ShapeError(f"norm: p must be a number, 'fro' or 'nuc', got {p!r}")
    return vector_norm(x, 2 if p in ("fro", None) else p, dim, keepdim, dtype=dtype)


# ------------------------------------------------------------------------------ distances


def normalize(input, p=2.0, dim=1, eps=1e-12):
    """input / max(norm of input over dim, eps): vectors of length 1"""
    return div(input, clamp(vector_norm(input, p, dim, True), eps))


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """out = sum of x1 x2 over dim / (max(|x1|, eps) max(|x2|, eps))"""
    for name, x in (("x1", x1), ("x2", x2)):
        if not isinstance(x, Variable) or x.array.dtype.kind not in "fV":
            raise DtypeError(f"cosine_similarity: {name} must be a tensor of floats")
    x1, x2 = broadcast_tensors(x1, x2)
    one, two = (clamp(vector_norm(x, 2, dim, True), eps) for x in (x1, x2))
    return sum(mul(div(x1, one), div(x2, two)), dim)


def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """out = |x1 - x2 + eps| over the last dim, in the p-norm"""
    return vector_norm(sub(x1, x2) + eps, p, -1, keepdim)


def dist(x, y, p=2):
    """|x - y| over all elements, in the p-norm"""
    return vector_norm(sub(x, y), p)


def cdist(x1, x2, p=2.0, compute_mode=None):
    """out[..., i, j] = |x1[..., i, :] - x2[..., j, :]|, in the p-norm"""
    a, b = tuple(x1.array.shape), tuple(x2.array.shape)
    if min(len(a), len(b)) < 2 or a[-1] != b[-1]:
        raise ShapeError(f"cdist: x1 {a} and x2 {b} must be (..., n, d) and (..., m, d)")
    for name, t in (("x1", x1), ("x2", x2)):
        if t.array.dtype.kind not in "fV":
            raise DtypeError(f"cdist: {name} is {t.array.dtype}, distances need floats")
    if p < 0:
        raise ArgumentError(f"cdist: p must not be negative, got {p}")
    return vector_norm(sub(unsqueeze(x1, -2), unsqueeze(x2, -3)), p, -1)
