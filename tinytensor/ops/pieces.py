"""Cutting a tensor into pieces, joining pieces, writing them: narrow, hsplit, vstack ..."""

from __future__ import annotations

import numpy as np

from ..autograd import Variable, wrap
from ..backend import namespace_of, on_its_device
from ..errors import DimError, ShapeError
from . import shape as sh
from .elementwise import where
from .index import _getitem, _index_put
from .shape import canonical, cat, diagonal, reshape, unsqueeze

# ------------------------------------------------------------------------------ cutting


def narrow(x, dim, start, length):
    """The view of x from start, length long, along dim"""
    if isinstance(start, Variable):
        if start.array.ndim or start.array.dtype.kind not in "iu":
            raise ShapeError("narrow: start must be one integer")
        start = start.array.item()
    if x.array.ndim == 0:
        raise ShapeError("narrow: a 0-d tensor cannot be narrowed")
    d = canonical(dim, x.array.ndim)
    n = x.array.shape[d]
    if not -n <= start <= n:
        raise DimError(f"narrow: start {start} is out of range: dim {dim} has {n} elements")
    start = start + n if start < 0 else start
    if length < 0 or start + length > n:
        raise ShapeError(f"narrow: {length} from {start} on is more than the {n} of dim {dim}")
    return _getitem(x, (slice(None),) * d + (slice(start, start + length),))


def select(x, dim, index):
    """The view x[..., index, ...], index at dim"""
    if x.array.ndim == 0:
        raise DimError("select: a 0-d tensor has no dim to select from")
    d = canonical(dim, x.array.ndim)
    n = x.array.shape[d]
    if not -n <= index < n:
        raise DimError(f"select: index {index} is out of range: dim {dim} has {n} elements")
    return _getitem(x, (slice(None),) * d + (int(index),))


def tensor_split(x, indices_or_sections, dim=0):
    """Views of x along dim: so many, nearly equal, or cut at the given places"""
    if x.array.ndim == 0:
        raise ShapeError("tensor_split: a 0-d tensor cannot be split")
    d, at = canonical(dim, x.array.ndim), indices_or_sections
    n = x.array.shape[d]
    if isinstance(at, Variable):
        at = at.array.tolist()
    if isinstance(at, int):
        if at <= 0:
            raise ShapeError(f"tensor_split: the number of sections must be positive, got {at}")
        small, larger = divmod(n, at)
        at = list(np.cumsum([small + 1] * larger + [small] * (at - larger)))[:-1]
    ends = [slice(a, b) for a, b in zip([None, *at], [*at, None])]
    return tuple(_getitem(x, (slice(None),) * d + (s,)) for s in ends)


def _split_at(name, x, at, dim, least):
    if x.array.ndim < least:
        raise ShapeError(f"{name}: x {tuple(x.array.shape)} must have at least {least} dims")
    if isinstance(at, int) and (at <= 0 or x.array.shape[dim] % at):
        raise ShapeError(
            f"{name}: x {tuple(x.array.shape)}: {x.array.shape[dim]} does not divide into {at}"
        )
    return tensor_split(x, at, dim)


def hsplit(x, indices_or_sections):
    """tensor_split along dim 1 (a vector: dim 0)"""
    return _split_at("hsplit", x, indices_or_sections, 0 if x.array.ndim == 1 else 1, 1)


def vsplit(x, indices_or_sections):
    """tensor_split along dim 0, of at least 2 dims"""
    return _split_at("vsplit", x, indices_or_sections, 0, 2)


def dsplit(x, indices_or_sections):
    """tensor_split along dim 2, of at least 3 dims"""
    return _split_at("dsplit", x, indices_or_sections, 2, 3)


# ------------------------------------------------------------------------------ joining


def _each(name, f, tensors):
    """f of one tensor, or of each of several, given as arguments or as a list."""
    if len(tensors) == 1 and isinstance(tensors[0], Variable):
        return f(tensors[0])
    return tuple(f(t) for t in (tensors[0] if len(tensors) == 1 else tensors))


def atleast_1d(*tensors):
    """A number as (1,); others as they are"""
    return _each("atleast_1d", lambda x: x if x.array.ndim else reshape(x, 1), tensors)


def atleast_2d(*tensors):
    """A vector (n,) as (1, n); others as they are"""
    up = lambda x: x if x.array.ndim > 1 else unsqueeze(atleast_1d(x), 0)  # noqa: E731
    return _each("atleast_2d", up, tensors)


def atleast_3d(*tensors):
    """A matrix (n, m) as (n, m, 1), a vector (n,) as (1, n, 1); others as they are"""
    up = lambda x: x if x.array.ndim > 2 else unsqueeze(atleast_2d(x), -1)  # noqa: E731
    return _each("atleast_3d", up, tensors)


def hstack(tensors):
    """The tensors side by side along dim 1; vectors along dim 0"""
    tensors = [atleast_1d(t) for t in sh._tensors("hstack", tensors)]
    return cat(tensors, 0 if tensors[0].array.ndim == 1 else 1)


def vstack(tensors):
    """The tensors one below the other; a vector is a row"""
    return cat([atleast_2d(t) for t in sh._tensors("vstack", tensors)], 0)


def dstack(tensors):
    """The tensors one behind the other, along dim 2"""
    return cat([atleast_3d(t) for t in sh._tensors("dstack", tensors)], 2)


def column_stack(tensors):
    """The tensors side by side; a vector is a column"""
    tensors = sh._tensors("column_stack", tensors)
    return cat([t if t.array.ndim > 1 else reshape(t, (-1, 1)) for t in tensors], 1)


# ------------------------------------------------------------------------------ writing


def _written(name, x, src, index):
    """x with src in the place of the view x[index]; src must have its shape."""
    shape = tuple(_getitem(x, index).array.shape)
    if tuple(src.array.shape) != shape:
        raise ShapeError(
            f"{name}: src {tuple(src.array.shape)} must have the shape of what it replaces, {shape}"
        )
    return _index_put(x, src, index)


def select_scatter(x, src, dim, index):
    """out = x with src in the place of select(x, dim, index)"""
    select(x, dim, index)  # complains of a wrong dim or index
    d = canonical(dim, x.array.ndim)
    return _written("select_scatter", x, src, (slice(None),) * d + (int(index),))


def slice_scatter(x, src, dim=0, start=None, end=None, step=1):
    """out = x with src in the place of x[..., start:end:step, ...], at dim"""
    d = canonical(dim, x.array.ndim)
    return _written("slice_scatter", x, src, (slice(None),) * d + (slice(start, end, step),))


@on_its_device
def diagonal_scatter(x, src, offset=0, dim1=0, dim2=1):
    """out = x with src in the place of diagonal(x, offset, dim1, dim2)"""
    old = diagonal(x, offset, dim1, dim2)
    if src.array.shape != old.array.shape:
        raise ShapeError(
            f"diagonal_scatter: src {tuple(src.array.shape)} must have the diagonal's shape, "
            f"{tuple(old.array.shape)}"
        )
    dims = canonical(dim1, x.array.ndim), canonical(dim2, x.array.ndim)
    how = (tuple(x.array.shape), offset, *dims)
    there = wrap(namespace_of(x.array).ones(old.array.shape, bool))
    return where(sh._diagonal_scatter(there, *how), sh._diagonal_scatter(src, *how), x)
