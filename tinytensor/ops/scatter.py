"""Reading and writing at tensors of indices: index_select, index_add, scatter, masked_select ...

All of them are x[index] and "x with value put (or added) at index", for the index that names
every element: reading's gradient is adding, writing's gradient is reading.
"""

from __future__ import annotations

import numpy as np

from .. import backend, dtypes
from ..autograd import Variable, wrap
from ..dtypes import highest, lowest
from ..errors import ArgumentError, DimError, DtypeError, RangeError, ShapeError
from ..op import op
from .elementwise import cast, div, mul
from .elementwise import where as where_
from .index import _check_range, _getitem, _grid, _index_put, as_index, gather
from .scan import prod
from .shape import canonical, expand, reshape


def _at(dim, index):
    """The index of x[..., index, ...], with `index` at dim."""
    return (slice(None),) * dim + (index,)


def _indices(name, x, index, dims=None):
    """The array of an index tensor: integers beside x, of so many dims."""
    if not isinstance(index, Variable) or index.array.dtype.kind not in "iu":
        raise DtypeError(f"{name}: index must be a tensor of int64")
    if dims is not None and index.array.ndim > dims:
        raise DimError(f"{name}: index {tuple(index.array.shape)} must have {dims} dim at most")
    backend.check_one_device(name, x=x.array, index=index.array)
    return index.array


def _common(name, x, source):
    if isinstance(source, Variable) and source.array.dtype != x.array.dtype:
        raise DtypeError(
            f"{name}: x is {x.array.dtype} and the source {source.array.dtype}: cast one"
        )


# ------------------------------------------------------------------------------ whole slices


def index_select(x, dim, index):
    """out = the slices of x along dim that the vector index names, in its order"""
    ix = _indices("index_select", x, index, 1).reshape(-1)
    d = canonical(dim, x.array.ndim)
    shape = tuple(x.array.shape)
    _check_range("index_select", index, (shape or (1,))[d], f"x {shape} along dim {d}", low=0)
    if not shape:
        if ix.size != 1:
            raise DimError(f"index_select: x is one number: index must be one 0, got {ix.size}")
        return x.clone()
    return _getitem(x, _at(d, ix))


def _write_slices(name, x, dim, index, source, accumulate):
    """x with source's slices at the places along dim that index names."""
    ix, d = _indices(name, x, index, 1).reshape(-1), canonical(dim, x.array.ndim)
    _common(name, x, source)
    shape = tuple(x.array.shape) or (1,)
    expected = (*shape[:d], ix.size, *shape[d + 1 :])
    given = tuple(source.array.shape) or (1,)
    if given != expected:
        raise SliceShapeError(
            f"{name}: x {shape}, dim {dim} and index ({ix.size},) ask for a source of shape "
            f"{expected}, got {given}"
        )
    _check_range(name, index, shape[d], f"x {shape} along dim {d}", low=0)
    out = _index_put(reshape(x, shape), reshape(source, expected), _at(d, ix), accumulate)
    return reshape(out, tuple(x.array.shape))


class SliceShapeError(ShapeError, DimError):
    """A source that does not fit the slices it is to be written to."""


def index_add(x, dim, index, source, *, alpha=1):
    """out = x with alpha * source[..., i, ...] added at index[i] along dim; indices may repeat"""
    _common("index_add", x, source)
    scaled = source if alpha == 1 else cast(mul(source, alpha), dtype=x.array.dtype)
    return _write_slices("index_add", x, dim, index, scaled, True)


def index_copy(x, dim, index, source):
    """out = x with source[..., i, ...] written at index[i] along dim"""
    return _write_slices("index_copy", x, dim, index, source, False)


@backend.on_its_device
def index_fill(x, dim, index, value):
    """out = x with the number value in the slices that index names along dim"""
    ix, d = _indices("index_fill", x, index, 1).reshape(-1), canonical(dim, x.array.ndim)
    shape = tuple(x.array.shape)
    if isinstance(value, Variable):
        if value.array.ndim:
            raise ShapeError(f"index_fill: value must be one number, got {value.array.shape}")
        value = cast(value, dtype=x.array.dtype)
    n = (shape or (1,))[d]
    _check_range("index_fill", index, n, f"x {shape} along dim {d}")
    ix = backend.namespace_of(ix).unique(ix % n) if n else ix  # so that value counts once each
    return reshape(_index_put(reshape(x, shape or (1,)), value, _at(d, ix)), shape)


# ------------------------------------------------------------------------------ single elements


@backend.on_its_device
def scatter(x, dim, index, src=None, *, value=None, reduce=None):
    """out = x with src[i, j] written at [index[i, j], j] (for dim 0); src may be a number

    index (and src) may be smaller than x elsewhere. Where two are written to one place, which one
    remains is open. reduce='add' adds, 'multiply' multiplies (without a gradient).
    """
    src = value if src is None else src
    if src is None:
        raise ArgumentError("scatter: pass src, a Tensor or a number")
    if reduce is not None:
        ways = {"add": "sum", "multiply": "prod"}
        if reduce not in ways:
            raise ShapeError(f"scatter: reduce must be 'add' or 'multiply', got {reduce!r}")
        if not isinstance(src, Variable):
            src = wrap(backend.namespace_of(x.array).full(index.array.shape, src, x.array.dtype))
        return scatter_reduce(x, dim, index, src, ways[reduce])
    return _scatter("scatter", x, dim, index, src, False)


def scatter_add(x, dim, index, src):
    """out = x with src[i, j] added at [index[i, j], j] (for dim 0); indices may repeat"""
    return _scatter("scatter_add", x, dim, index, src, True)


def _scatter(name, x, dim, index, src, accumulate):
    x1, where, src = _scatter_places(name, x, dim, index, src)
    if where is None:
        return x.clone()
    return reshape(_index_put(x1, src, where, accumulate), tuple(x.array.shape))


@backend.on_its_device
def _scatter_places(name, x, dim, index, src):
    """x and src with at least one dim, src cut to index, and the index of every element."""
    ix, d = _indices(name, x, index), canonical(dim, x.array.ndim)
    _common(name, x, src)
    if ix.size == 0:
        return x, None, src
    shape, ix = tuple(x.array.shape) or (1,), ix.reshape(ix.shape or (1,))
    tensor = isinstance(src, Variable)
    given = (tuple(src.array.shape) or (1,)) if tensor else ix.shape
    fits = len(shape) == ix.ndim == len(given) and all(
        n <= s and (n <= m or k == d) for k, (n, s, m) in enumerate(zip(ix.shape, given, shape))
    )
    if not fits:
        raise ShapeError(
            f"{name}: x {shape}, index {tuple(ix.shape)} and src {given}: as many dims, index no "
            f"larger than src, nor than x except along dim {d}"
        )
    _check_range(name, index, shape[d], f"x {shape} along dim {d}", 0, RangeError)
    if tensor:
        src = _getitem(reshape(src, given), tuple(slice(0, n) for n in ix.shape))
    xp = backend.namespace_of(x.array)
    return reshape(x, shape), _grid(xp, ix, d), src


@backend.on_its_device
def scatter_reduce(x, dim, index, src, reduce, *, include_self=True):
    """out = x with src[i, j] joined in at [index[i, j], j]: 'sum', 'mean', 'prod', 'amax', 'amin'

    include_self=False leaves out x's own value wherever something arrives.
    """
    x1, where, src = _scatter_places("scatter_reduce", x, dim, index, src)
    if reduce not in ("sum", "mean", "prod", "amax", "amin"):
        raise ShapeError(f"scatter_reduce: {reduce!r} is not sum, mean, prod, amax or amin")
    if where is None:
        return x.clone()
    xp = backend.namespace_of(x.array)
    hits = xp.zeros(x1.array.shape, np.int64)
    xp.add.at(hits, where, 1)
    if reduce in ("sum", "mean"):
        start = x1 if include_self else mul(x1, wrap(hits == 0))
        out = _index_put(cast(start, dtype=x1.array.dtype), src, where, True)
        if reduce == "mean":
            count = xp.maximum(hits + include_self, 1)
            mode = "floor" if x.array.dtype.kind in "iu" else None
            out = div(out, wrap(count.astype(x.array.dtype)), rounding_mode=mode)
        return reshape(out, tuple(x.array.shape))
    join = {"prod": _scatter_prod, "amax": _scatter_amax, "amin": _scatter_amin}[reduce]
    fresh = None if include_self else hits > 0
    return reshape(join(x1, src, where, fresh), tuple(x.array.shape))


def _joined(join, x, src, index, fresh, start):
    """x, or `start` at fresh places, with src joined in at index."""
    out = x.copy()
    if fresh is not None:
        out[fresh] = start
    backend.join_at(join, out, index, src)
    return out


@backend.on_its_device
def _scatter_prod(x, src, index, fresh):
    """As products over rows: for each place x itself and what is sent there, filled up with 1."""
    xp, shape = backend.namespace_of(x.array), tuple(x.array.shape)
    place = xp.arange(x.array.size).reshape(shape)[index].reshape(-1)  # where each src goes
    order = xp.argsort(place, kind="stable")
    place = place[order]
    rank = xp.arange(place.size) - xp.searchsorted(place, place)  # first, second ... to go there
    start = x if fresh is None else where_(wrap(fresh), 1.0, x)
    rows = wrap(xp.ones((x.array.size, int(rank.max()) + 2), x.array.dtype))
    rows = _index_put(rows, reshape(start, -1), (slice(None), 0))
    rows = _index_put(rows, _getitem(reshape(src, -1), (order,)), (place, rank + 1))
    return reshape(prod(rows, 1, dtype=x.array.dtype), shape)


@op
def _scatter_amax(xp, x, src, *, index, fresh):
    return _joined(xp.maximum, x, src, index, fresh, lowest(x.dtype))


@op
def _scatter_amin(xp, x, src, *, index, fresh):
    return _joined(xp.minimum, x, src, index, fresh, highest(x.dtype))


def _share(xp, g, x, src, out, index, fresh):
    """All that equal the extreme share its gradient."""
    hit = (src == _getitem.on(xp, out, index=index)).astype(g.dtype)
    own = (x == out).astype(g.dtype)
    if fresh is not None:
        own = own * ~xp.asarray(fresh)
    g = g / _index_put.on(xp, own, hit, index=index, accumulate=True)
    return g * own, _getitem.on(xp, g, index=index) * hit


_scatter_amax.rule("x", "src", _share)
_scatter_amin.rule("x", "src", _share)


def index_put(x, indices, values, accumulate=False):
    """out = x with values written (or added) at x[indices], indices a tuple of tensors"""
    if isinstance(indices, Variable):
        raise ArgumentError("index_put: indices must be a tuple of tensors, one a dimension")
    _common("index_put", x, values)
    return _index_put(x, values, as_index(x, tuple(indices)), accumulate)


# ------------------------------------------------------------------------------ flat, by mask


def take(x, index):
    """out[i] = x.reshape(-1)[index[i]]"""
    flat = reshape(x, -1)
    _check_range("take", index, x.array.size, f"x of {x.array.size} elements")
    return _getitem(flat, (_indices("take", x, index),))


def put(x, index, source, accumulate=False):
    """out = x with source written (or added) at the flat places index"""
    ix = _indices("put", x, index)
    _common("put", x, source)
    if ix.size != source.array.size:
        raise SliceShapeError(f"put: {ix.size} indices for {source.array.size} elements of source")
    _check_range("put", index, x.array.size, f"x of {x.array.size} elements")
    out = _index_put(reshape(x, -1), reshape(source, -1), (ix.reshape(-1),), accumulate)
    return reshape(out, tuple(x.array.shape))


@backend.on_its_device
def take_along_dim(x, indices, dim=None):
    """out = gather(x, dim, indices), after broadcasting the other dims; without dim, of flat x"""
    _indices("take_along_dim", x, indices)
    if dim is None:
        return gather(reshape(x, -1), 0, reshape(indices, -1))
    d = canonical(dim, x.array.ndim)
    if x.array.ndim != indices.array.ndim:
        raise ShapeError(
            f"take_along_dim: x {tuple(x.array.shape)} and indices {tuple(indices.array.shape)} "
            "must have as many dims"
        )
    one = lambda s: (*s[:d], 1, *s[d + 1 :])  # noqa: E731
    try:
        both = np.broadcast_shapes(one(x.array.shape), one(indices.array.shape))
    except ValueError:
        raise ShapeError(
            f"take_along_dim: x {tuple(x.array.shape)} and indices {tuple(indices.array.shape)} "
            f"do not broadcast outside of dim {d}"
        ) from None
    fit = lambda t: expand(t, (*both[:d], t.array.shape[d], *both[d + 1 :]))  # noqa: E731
    index = fit(indices)
    n = x.array.shape[d]
    _check_range("take_along_dim", indices, n, f"x {tuple(x.array.shape)} along dim {d}")
    return gather(fit(x), d, wrap(index.array % n if n else index.array))


def masked_select(x, mask):
    """out = the vector of x's elements where mask holds, x and mask broadcast"""
    x, mask = _with_mask("masked_select", x, mask)
    return _getitem(x, (mask.array,))


@backend.on_its_device
def masked_scatter(x, mask, source):
    """out = x with the first elements of source, in order, where mask holds"""
    _common("masked_scatter", x, source)
    x, mask = _with_mask("masked_scatter", x, mask)
    count = int(mask.array.sum())
    if count > source.array.size:
        raise ShapeError(
            f"masked_scatter: mask asks for {count} elements, source has {source.array.size}"
        )
    first = _getitem(reshape(source, -1), (slice(0, count),))
    return _index_put(x, first, (mask.array,))


def _with_mask(name, x, mask):
    if not isinstance(mask, Variable) or mask.array.dtype != dtypes.bool:
        raise DtypeError(f"{name}: mask must be a tensor of bools")
    try:
        shape = np.broadcast_shapes(x.array.shape, mask.array.shape)
    except ValueError:
        raise ShapeError(
            f"{name}: x {tuple(x.array.shape)} and mask {tuple(mask.array.shape)} do not broadcast"
        ) from None
    return expand(x, shape), expand(mask, shape)
