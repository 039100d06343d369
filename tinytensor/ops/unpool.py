"""Max pooling undone: each value back at the place it was taken from, zeros elsewhere."""

from __future__ import annotations

import math

from ..errors import DtypeError, ShapeError
from .index import _check_range
from .scatter import scatter
from .shape import reshape
from .windows import batched, each


def _max_unpool(name, n, input, indices, kernel_size, stride, padding, output_size):
    if indices.array.dtype.kind not in "iu":
        raise DtypeError(f"{name}: indices are {indices.array.dtype}, max_pool{n}d's are int64")
    if indices.array.shape != input.array.shape:
        raise ShapeError(
            f"{name}: input {tuple(input.array.shape)} and indices {tuple(indices.array.shape)} "
            "must have one shape"
        )
    x, lone = batched(name, input, n)
    size = each(name, "kernel_size", kernel_size, n)
    stride = size if stride is None else each(name, "stride", stride, n)
    padding = each(name, "padding", padding, n, 0)
    fits = [
        (m - 1) * s - 2 * p + k for m, s, p, k in zip(x.array.shape[2:], stride, padding, size)
    ]
    space = tuple(fits if output_size is None else output_size)[-n:]
    if any(not f - s < m < f + s for m, f, s in zip(space, fits, stride)):
        raise ShapeError(f"{name}: output_size {space} must be within a stride of {tuple(fits)}")
    rows, area = tuple(x.array.shape[:2]), math.prod(space)
    places = reshape(indices, (*rows, -1))
    _check_range(name, places, area, f"the {area} elements of {space}", 0, ShapeError)
    flat = x.new_zeros((*rows, area))
    out = reshape(scatter(flat, 2, places, reshape(x, (*rows, -1))), (*rows, *space))
    return reshape(out, out.array.shape[1:]) if lone else out


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """out[n, c, indices[n, c, i]] = input[n, c, i], else 0: max_pool1d's input, its largest only

    indices are what max_pool1d returned; output_size decides where several sizes pool to input's.
    """
    how = (kernel_size, stride, padding, output_size)
    return _max_unpool("max_unpool1d", 1, input, indices, *how)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """max_unpool1d over height and width: indices are places in the flat image"""
    how = (kernel_size, stride, padding, output_size)
    return _max_unpool("max_unpool2d", 2, input, indices, *how)


def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """max_unpool1d over depth, height and width"""
    how = (kernel_size, stride, padding, output_size)
    return _max_unpool("max_unpool3d", 3, input, indices, *how)
