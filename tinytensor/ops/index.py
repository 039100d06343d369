"""Indexing: x[...], gather and scatter, embedding lookup, sorting and where things are.

The gradient of reading at an index is adding at that index, and the other way round.
"""

from __future__ import annotations

import operator

import numpy as np

from .. import backend
from ..autograd import Variable, mode, unbroadcast
from ..errors import ArgumentError, DimError, DtypeError, RangeError, ShapeError
from ..op import op
from .elementwise import narrowed
from .shape import canonical, reshape

# ------------------------------------------------------------------------------ x[index]


@op(view=True)
def _getitem(xp, x, *, index):
    return x[index]


@op
def _put_zeros(xp, x, *, index, shape):
    """Zeros of `shape`, with x added at index."""
    out = xp.zeros(shape, x.dtype)
    if is_basic(index) or _is_mask(index):
        out[index] = x  # no place is named twice
    else:
        backend.join_at(xp.add, out, index, x)
    return out


@op
def _index_put(xp, x, value, *, index, accumulate=False):
    """x with value written (or added) at index."""
    out = x.copy()
    if accumulate:
        backend.join_at(xp.add, out, index, xp.asarray(value, dtype=x.dtype))
    else:
        out[index] = value
    return out


_getitem.rule(
    "x", lambda xp, g, x_shape, index: _put_zeros.on(xp, g, index=index, shape=x_shape)
)
_put_zeros.rule("x", lambda xp, g, index: _getitem.on(xp, g, index=index))


@_index_put.rule("x")
def _(xp, g, index, accumulate):
    return g if accumulate else _index_put.on(xp, g, 0, index=index)


@_index_put.rule("value")
def _(xp, g, value_shape, index):
    return unbroadcast(_getitem.on(xp, g, index=index), value_shape)


def is_basic(index):
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, slice)) for p in parts)


def _is_mask(index):
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [p for p in parts if hasattr(p, "dtype")]
    return len(arrays) == 1 and arrays[0].dtype.kind == "b"


def as_index(x, index):
    """A user's index as NumPy takes it, arrays on x's device; errors name the fix."""
    parts = index if isinstance(index, tuple) else (index,)
    out = tuple(_part(x, p) for p in parts)
    given = sum(
        p.ndim if hasattr(p, "dtype") and p.dtype.kind == "b" else 1
        for p in out
        if p is not None and p is not Ellipsis and not isinstance(p, bool)
    )
    if given > x.array.ndim:
        raise DimError(
            f"too many indices: x {tuple(x.array.shape)} has {x.array.ndim} dims, "
            f"the index names {given}"
        )
    if given == x.array.ndim and any(hasattr(p, "dtype") for p in out):
        out = tuple([p for p in out if p is not Ellipsis])  # of no dims: it keeps nothing apart
    if len(out) == x.array.ndim and all(type(p) is int for p in out):
        return (*out, Ellipsis)  # a 0-d view: without it NumPy would copy the one number
    return out


def _part(x, p):
    if p is None or p is Ellipsis or type(p) is int or isinstance(p, bool):
        return p
    if isinstance(p, slice):
        step = 1 if p.step is None else operator.index(p.step)
        if step <= 0:
            raise ArgumentError("a slice step must be positive: use .flip(dim) to reverse")
        start, stop = (None if v is None else operator.index(v) for v in (p.start, p.stop))
        return slice(start, stop, step)
    if isinstance(p, Variable):
        p = p.array
        if p.ndim == 0 and p.dtype.kind in "iu":
            return int(p)  # a number, not an array of them
    elif isinstance(p, (list, tuple, range)):
        p = np.asarray([v.array.item() if isinstance(v, Variable) else v for v in p])
        if p.size == 0:
            p = p.astype(np.int64)
    elif not hasattr(p, "dtype"):
        try:
            return operator.index(p)
        except TypeError:
            raise IndexTypeError(
                f"an index must be ints, slices, None, ..., or tensors of int or bool, not "
                f"{type(p).__name__}"
            ) from None
    if p.dtype.kind not in "biu":
        raise IndexTypeError(f"tensors used as indices must be int or bool, got {p.dtype}")
    return backend.to_device(p, backend.device_of(x.array))


class IndexTypeError(DimError, TypeError):
    """An index that is neither int, slice, None, Ellipsis nor a tensor of them."""


def ints_first(index):
    """The ints of an index that has arrays, too, as an index of its own, and what is left.

    NumPy broadcasts ints with the arrays, PyTorch applies them before: x[0, :, [1, 2]].
    """
    if not any(hasattr(p, "dtype") for p in index) or not any(type(p) is int for p in index):
        return None, index
    first = []
    for p in index:
        if hasattr(p, "dtype"):
            first += [slice(None)] * (p.ndim if p.dtype.kind == "b" else 1)
        elif p is not None:
            first.append(slice(None) if isinstance(p, slice) else p)
    return tuple(first), tuple([p for p in index if type(p) is not int])


def getitem(x, index):
    """x[index], as NumPy and PyTorch: basic indices give views, tensors copy."""
    first, index = ints_first(as_index(x, index))
    return _getitem(x if first is None else _getitem(x, first), index)


# ------------------------------------------------------------------------------ along a dim


@op
def take_along_axis(xp, x, *, index, axis):
    """out[..., i, ...] = x[..., index[..., i, ...], ...] along axis"""
    return xp.take_along_axis(x, index, axis)


@op
def _put_along_axis(xp, x, *, index, axis, shape):
    """Zeros of `shape`, with x added at index along axis."""
    out = xp.zeros(shape, x.dtype)
    backend.join_at(xp.add, out, _grid(xp, index, axis), x)
    return out


def _grid(xp, index, axis):
    """index along axis, with the other dimensions' own positions: an index for x[...]."""
    where = [
        xp.arange(n).reshape([-1 if k == d else 1 for k in range(index.ndim)])
        for d, n in enumerate(index.shape)
    ]
    where[axis] = index
    return tuple(where)


@op
def _gather(xp, x, *, index, dim):
    return x[_grid(xp, index, dim)]


_gather.rule(
    "x",
    lambda xp, g, x_shape, index, dim: _put_along_axis.on(
        xp, g, index=index, axis=dim, shape=x_shape
    ),
)
take_along_axis.rule(
    "x",
    lambda xp, g, x_shape, index, axis: _put_along_axis.on(
        xp, g, index=index, axis=axis, shape=x_shape
    ),
)
_put_along_axis.rule("x", lambda xp, g, index, axis: _gather.on(xp, g, index=index, dim=axis))


def gather(x, dim, index):
    """out[i, j] = x[index[i, j], j] for dim 0; index may be smaller than x elsewhere"""
    if not isinstance(index, Variable) or index.array.dtype.kind not in "iu":
        raise DtypeError("gather: index must be a tensor of int64")
    backend.check_one_device("gather", x=x.array, index=index.array)
    ix, shape = index.array, x.array.shape
    d = canonical(dim, x.array.ndim)
    if ix.size == 0:  # of any shape, as in PyTorch: nothing is gathered
        return reshape(getitem(reshape(x, -1), slice(0, 0)), ix.shape)
    if x.array.ndim == 0 or ix.ndim == 0:
        if x.array.ndim > 1 or ix.ndim > 1:
            raise ShapeError(f"gather: x {shape} and index {ix.shape} must have as many dims")
        if x.array.ndim == 0 and ix.ndim == 0:
            return reshape(gather(reshape(x, 1), 0, reshape(index, 1)), ())
        return gather(reshape(x, -1), 0, reshape(index, -1)).reshape(ix.shape)
    if ix.ndim != x.array.ndim or any(
        n > m for k, (n, m) in enumerate(zip(ix.shape, shape)) if k != d
    ):
        raise ShapeError(
            f"gather: x {tuple(shape)} and index {tuple(ix.shape)}: as many dims, and index no "
            f"larger than x except along dim {d}"
        )
    _check_range("gather", index, shape[d], f"x {tuple(shape)} along dim {d}", 0, RangeError)
    return _gather(x, ix, d)


def _check_range(name, index, n, what, low=None, error=DimError):
    """Indices out of range are named; on the GPU this would synchronise, so only on the CPU."""
    ix = index.array
    if isinstance(ix, np.ndarray) and ix.size:
        low = -n if low is None else low
        lo, hi = int(ix.min()), int(ix.max())
        if lo < low or hi >= n:
            bad = lo if lo < low else hi
            raise error(f"{name}: index {bad} is out of range for {what}: use {low} to {n - 1}")


@op
def _embedding(xp, weight, *, index, padding_idx=None, dtype=None):
    """out = weight[index], in dtype if one is given"""
    return narrowed(weight[index], dtype or weight.dtype)


@_embedding.rule("weight")
def _(xp, g, weight_shape, weight_dtype, index, padding_idx):
    if padding_idx is not None:
        g = g * xp.asarray((index != padding_idx)[..., None])
    return _add_rows.on(xp, g, index=index, count=weight_shape[0], dtype=weight_dtype)


@op
def _add_rows(xp, x, *, index, count, dtype=None):
    """out[r] = sum of x[i] over the positions i with index[i] = r; in dtype if one is given"""
    x = narrowed(x, dtype or x.dtype)
    out = xp.zeros((count, x.shape[-1]), x.dtype)
    backend.join_at(xp.add, out, index.reshape(-1), x.reshape(-1, x.shape[-1]))
    return out


_add_rows.rule("x", lambda xp, g, x_dtype, index: _embedding.on(xp, g, index=index, dtype=x_dtype))


def embedding(input, weight, padding_idx=None):
    """out[..., :] = weight[input[...]]: row lookup. The row padding_idx gets no gradient.

    A row that there is not is an error on the CPU, NaN on CUDA.
    """
    if not isinstance(input, Variable) or input.array.dtype.kind not in "iu":
        raise DtypeError("embedding: input must be a tensor of int64, the row numbers")
    if weight.array.ndim != 2:
        raise ShapeError(f"embedding: weight {tuple(weight.array.shape)} must have 2 dims")
    backend.check_one_device("embedding", input=input.array, weight=weight.array)
    rows = weight.array.shape[0]
    _check_range("embedding", input, rows, f"weight {tuple(weight.array.shape)}", low=0)
    if padding_idx is not None and padding_idx < 0:
        padding_idx += rows
    dtype = None if mode.autocast is None else mode.autocast.taken(weight)
    return _embedding(weight, input.array, padding_idx, dtype)


# ------------------------------------------------------------------------------ order, places


@op(differentiable=False)
def argsort(xp, x, *, dim=-1, descending=False, stable=True):
    """out = the indices that sort x along dim, always stably: equal elements keep their order"""
    canonical(dim, x.ndim)
    if x.ndim == 0:
        return xp.zeros((), np.int64)
    if not descending:
        return xp.argsort(x, axis=dim, kind="stable")
    reverse = xp.argsort(xp.flip(x, (dim,)), axis=dim, kind="stable")
    return x.shape[dim] - 1 - xp.flip(reverse, (dim,))  # stable from the other end


def sort(x, dim=-1, descending=False, *, stable=True):
    """values sorted along dim, and their indices in x"""
    from .reduce import ValuesAndIndices

    index = argsort(x, dim, descending)
    return ValuesAndIndices(gather(x, dim, index) if x.array.ndim else x.clone(), index)


def topk(x, k, dim=-1, largest=True, sorted=True):
    """The k largest (or smallest) x along dim, best first, and their indices"""
    from .reduce import ValuesAndIndices

    d = canonical(dim, x.array.ndim)
    n = x.array.shape[d] if x.array.ndim else 1
    if not 0 <= k <= n:
        raise ShapeError(f"topk: k = {k} is out of range: x has {n} elements along dim {dim}")
    if x.array.ndim == 0:
        return ValuesAndIndices(x.clone(), argsort(x))
    index = _top(x, k, d, largest)
    return ValuesAndIndices(gather(x, d, index), index)


@op(differentiable=False)
def _top(xp, x, *, k, dim, largest):
    n = x.shape[dim]
    order = xp.moveaxis(x, dim, -1)
    if 0 < k < n:  # a partial selection first, then only the k are sorted
        place = n - k if largest else k - 1
        chosen = xp.argpartition(order, place, axis=-1)
        chosen = chosen[..., n - k :] if largest else chosen[..., :k]
        worst = xp.take_along_axis(order, chosen[..., :1] if largest else chosen[..., -1:], -1)
        if xp is np and ((order == worst).sum(-1) > 1).any():  # of equals the first are chosen
            chosen = argsort.on(xp, order, dim=-1, descending=largest)[..., :k]
        chosen = xp.sort(chosen, axis=-1)
        values = xp.take_along_axis(order, chosen, -1)
    else:
        chosen, values = None, order
    rank = argsort.on(xp, values, dim=-1, descending=largest)
    index = rank if chosen is None else xp.take_along_axis(chosen, rank, -1)
    return xp.moveaxis(index[..., :k], -1, dim)


@backend.on_its_device
def nonzero(x, *, as_tuple=False):
    """The positions where x is not zero: (count, ndim), or one tensor a dimension."""
    from ..autograd import wrap

    array = x.array
    xp = backend.namespace_of(array)
    where = xp.nonzero(array) if array.ndim else xp.nonzero(array.reshape(1))
    if as_tuple:
        return tuple(wrap(w) for w in where)
    if array.ndim == 0:
        return wrap(xp.zeros((where[0].size, 0), np.int64))
    return wrap(xp.stack(where, axis=-1))


@op(differentiable=False)
def _one_hot(xp, x, *, num_classes):
    out = xp.zeros((*x.shape, num_classes), np.int64)
    xp.put_along_axis(out, x[..., None], 1, -1)
    return out


@backend.on_its_device
def one_hot(tensor, num_classes=-1):
    """out[..., c] = 1 where c equals tensor[...], else 0, as int64"""
    if tensor.array.dtype.kind not in "iu":
        raise DtypeError(f"one_hot: tensor must be int64, got {tensor.array.dtype}")
    if num_classes == -1:
        if tensor.array.size == 0:
            raise ShapeError("one_hot: an empty tensor needs num_classes")
        num_classes = int(tensor.array.max()) + 1
    _check_range("one_hot", tensor, num_classes, f"num_classes = {num_classes}", low=0)
    return _one_hot(tensor, num_classes)
