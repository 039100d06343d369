"""embedding_bag: rows of a table, summed, averaged or maximised over bags of indices."""

from __future__ import annotations

import math

import numpy as np

from .. import backend
from ..autograd import Variable, no_grad, wrap
from ..errors import ArgumentError, DimError, DtypeError, ShapeError
from ..op import op
from .elementwise import mul, where
from .index import embedding
from .reduce import max, sum
from .shape import unsqueeze


@op
def _scale_gradient(xp, x, *, by):
    """out = x; its gradient is multiplied by `by`"""
    return x.copy()


_scale_gradient.rule("x", lambda g, by: g * by)


@backend.on_its_device
def embedding_bag(
    input, weight, offsets=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False,
    mode="mean", sparse=False, per_sample_weights=None, include_last_offset=False,
    padding_idx=None,
):  # fmt: skip
    """out[b] = sum (or mean, or max) of weight[i] over the indices i in bag b; 0 for an empty bag

    input               (B, L): a bag a row; or a vector, cut into bags that start at `offsets`
    include_last_offset the last offset is the end of the last bag
    per_sample_weights  a factor for each index, for mode 'sum'
    padding_idx         an index that does not count
    max_norm            rows that are longer (in the norm_type-norm) are shortened, in the table
    scale_grad_by_freq  a row's gradient is divided by how often it was named
    """
    _check(input, weight, offsets, mode, per_sample_weights)
    index, inside, order = _bags(input, weight, offsets, include_last_offset)
    xp = backend.namespace_of(weight.array)
    rows = weight.array.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise ShapeError(f"embedding_bag: padding_idx {padding_idx} is not among {rows} rows")
        inside = inside & (index != padding_idx % rows)
    if max_norm is not None:
        _shorten(weight, xp.unique(index[inside]), max_norm, norm_type)
    values = embedding(wrap(index), weight)  # (B, longest, D)
    if scale_grad_by_freq:
        often = xp.bincount(index[inside], minlength=rows)
        values = _scale_gradient(values, (1 / xp.maximum(often, 1))[index][..., None])
    mask = wrap(inside[..., None])
    if mode == "max":
        empty = wrap(~inside.any(axis=1)[:, None])
        if index.shape[1] == 0:
            return sum(values, 1)
        return where(empty, 0.0, max(where(mask, values, -math.inf), 1).values)
    if per_sample_weights is not None:
        factors = per_sample_weights.reshape(-1)[wrap(order)]
        values = mul(values, unsqueeze(factors, -1))
    total = sum(where(mask, values, 0.0), 1)
    if mode == "mean":
        count = xp.maximum(inside.sum(axis=1), 1).astype(weight.array.dtype)
        return total / wrap(count[:, None])
    return total


def _check(input, weight, offsets, mode, per_sample_weights):
    if not isinstance(input, Variable) or input.array.dtype.kind not in "iu":
        raise DtypeError("embedding_bag: input must be a tensor of int64, the row numbers")
    if mode not in ("sum", "mean", "max"):
        raise ArgumentError(f"embedding_bag: mode must be 'sum', 'mean' or 'max', got {mode!r}")
    if weight.array.ndim != 2:
        raise ShapeError(f"embedding_bag: weight {tuple(weight.array.shape)} must be a matrix")
    if input.array.ndim not in (1, 2):
        raise ShapeError(f"embedding_bag: input {tuple(input.array.shape)} must have 1 or 2 dims")
    if (input.array.ndim == 1) != (offsets is not None):
        raise ShapeError("embedding_bag: offsets go with a vector input, and only with that")
    if per_sample_weights is not None:
        if mode != "sum":
            raise ModeError(f"embedding_bag: per_sample_weights need mode='sum', not {mode!r}")
        if per_sample_weights.array.shape != input.array.shape:
            raise ShapeError(
                f"embedding_bag: per_sample_weights {tuple(per_sample_weights.array.shape)} must "
                f"have input's shape {tuple(input.array.shape)}"
            )


class ModeError(ShapeError, NotImplementedError):
    """A combination of arguments that there is not."""


def _bags(input, weight, offsets, include_last_offset):
    """Indices (B, longest), which of them are in the bag, and their places in flat input."""
    xp, array = backend.namespace_of(input.array), input.array
    if offsets is None:
        order = xp.arange(array.size).reshape(array.shape)
        return array, xp.ones(array.shape, bool), order
    start, n = offsets.array, array.size
    if offsets.array.ndim != 1:
        raise ShapeError("embedding_bag: offsets must be a vector")
    if start.size and int(start[0]) != 0:
        raise ShapeError(f"embedding_bag: the first offset must be 0, got {int(start[0])}")
    if start.size and int(start[-1]) > n:
        raise DimError(f"embedding_bag: the last offset {int(start[-1])} is beyond {n} indices")
    stop = xp.concatenate([start[1:], xp.asarray([n], start.dtype)])
    if include_last_offset:
        start, stop = start[:-1], start[1:]
    longest = int((stop - start).max()) if start.size else 0
    order = start[:, None] + xp.arange(longest)
    inside = order < stop[:, None]
    order = xp.where(inside, order, 0)
    index = array[order] if n else xp.zeros(order.shape, np.int64)
    return index, inside, order


def _shorten(weight, rows, max_norm, norm_type):
    """weight's rows, in place and off the tape: none longer than max_norm."""
    xp = backend.namespace_of(weight.array)
    chosen = weight.array[rows]
    length = (xp.abs(chosen) ** norm_type).sum(axis=1, keepdims=True) ** (1 / norm_type)
    shorter = xp.where(length > max_norm, chosen * (max_norm / (length + 1e-7)), chosen)
    with no_grad():
        weight[wrap(rows)] = wrap(shorter.astype(chosen.dtype))
