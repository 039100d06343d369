"""Pooling: one number for each window of an image, its largest element or its mean."""

from __future__ import annotations

import math

import numpy as np

from .. import backend
from ..autograd import wrap
from ..dtypes import lowest
from ..errors import DtypeError, ShapeError
from ..op import op
from .elementwise import div
from .index import _getitem, gather
from .linalg import matmul
from .pad import pad
from .reduce import sum
from .shape import movedim, reshape, squeeze, transpose
from .windows import _windows, batched, both_sides, each

# ------------------------------------------------------------------------------ layout


def _layout(name, space, kernel_size, stride, padding, dilation, ceil_mode):
    """Sizes per dim, checked, and the padding (before, after) that holds every window."""
    n = len(space)
    size = each(name, "kernel_size", kernel_size, n)
    stride = size if stride is None or stride in ((), []) else each(name, "stride", stride, n)
    padding, dilation = each(name, "padding", padding, n, 0), each(name, "dilation", dilation, n)
    if any(2 * p > k for p, k in zip(padding, size)):
        raise ShapeError(f"{name}: padding {padding} must be at most half of the kernel {size}")
    ends = []
    for s, k, step, p, d in zip(space, size, stride, padding, dilation):
        reach = d * (k - 1) + 1
        free = s + 2 * p - reach
        count = (-(-free // step) if ceil_mode else free // step) + 1
        if ceil_mode and (count - 1) * step >= s + p:
            count -= 1  # a window must start inside of the image or of its left padding
        if count < 1 or s == 0:
            raise ShapeError(f"{name}: a window of {size} does not fit into {tuple(space)}")
        ends.append((p, max((count - 1) * step + reach - s - p, 0)))
    return size, stride, ends, dilation


def _cut(x, ends, space, size, stride, dilation, fill):
    """The windows of x, each flat: (N, C, *O, K)"""
    n = len(size)
    if any(p for end in ends for p in end):
        x = pad(x, both_sides(ends), value=fill)
    windows = _windows(x, size, stride, dilation)
    shape = windows.array.shape
    return reshape(windows, (*shape[: 2 + n], math.prod(size)))


# ------------------------------------------------------------------------------ largest


@op(differentiable=False)
def _largest(xp, x):
    """The place of the (first) largest along the last dim, kept as a dim of size 1."""
    return xp.argmax(x, axis=-1)[..., None]


def _max_pool(
    name, n, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
):
    x, lone = batched(name, input, n)
    space = x.array.shape[2:]
    if 0 in x.array.shape[1:]:
        raise ShapeError(f"{name}: input {tuple(input.array.shape)}: only the batch may be empty")
    how = _layout(name, space, kernel_size, stride, padding, dilation, ceil_mode)
    size, stride, ends, dilation = how
    windows = _cut(x, ends, space, size, stride, dilation, lowest(x.array.dtype))
    place = _largest(windows)
    out = squeeze(gather(windows, windows.array.ndim - 1, place), -1)
    out = squeeze(out, 0) if lone else out
    if not return_indices:
        return out
    xp = backend.namespace_of(x.array)
    flat, where = xp.zeros((), np.int64), np.unravel_index  # the place in the flat image
    inside = where(backend.to_numpy(place.array)[..., 0], size)
    for d in range(n):
        steps = np.arange(windows.array.shape[2 + d]) * stride[d] - ends[d][0]
        steps = steps.reshape([-1 if k == d else 1 for k in range(n)])
        flat = flat * space[d] + xp.asarray(steps + inside[d] * dilation[d])
    return out, wrap(flat[0] if lone else flat)


def max_pool1d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    """out[n, c, i] = largest of input[n, c, i stride + k dilation], k < kernel_size

    stride is kernel_size if None; padding holds -inf; ceil_mode adds a last window that sticks
    out. With return_indices also the places in the flat image. The first of equals is chosen.
    """
    how = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return _max_pool("max_pool1d", 1, input, *how)


def max_pool2d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    """max_pool1d with two dims of space: input (N, C, H, W) or (C, H, W)"""
    how = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return _max_pool("max_pool2d", 2, input, *how)


def max_pool3d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    """max_pool1d with three dims of space"""
    how = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return _max_pool("max_pool3d", 3, input, *how)


# ------------------------------------------------------------------------------ mean


def _avg_pool(
    name, n, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
):
    x, lone = batched(name, input, n)
    space = x.array.shape[2:]
    how = _layout(name, space, kernel_size, stride, padding, 1, ceil_mode)
    size, stride, ends, dilation = how
    if divisor_override == 0:
        raise ShapeError(f"{name}: divisor_override must not be 0")
    total = sum(_cut(x, ends, space, size, stride, dilation, 0), -1)
    number = divisor_override
    if number is None:
        number = np.ones((), np.int64)  # how many elements each window has
        for d, count in enumerate(total.array.shape[2:]):
            start = np.arange(count) * stride[d] - ends[d][0]
            edge = space[d] + (ends[d][0] if count_include_pad else 0)
            first = start if count_include_pad else np.maximum(start, 0)
            number = number[..., None] * (np.minimum(start + size[d], edge) - first)
        number = number.astype(x.array.dtype)
        number = wrap(backend.to_device(number, backend.device_of(x.array)))
    total = div(total, number, rounding_mode="trunc" if x.array.dtype.kind in "iu" else None)
    return squeeze(total, 0) if lone else total


def avg_pool1d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True
):
    """out[n, c, i] = mean of input[n, c, i stride + k], k < kernel_size

    The zeros of the padding count as elements if count_include_pad.
    """
    how = (kernel_size, stride, padding, ceil_mode, count_include_pad, None)
    return _avg_pool("avg_pool1d", 1, input, *how)


def avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
    divisor_override=None,
):  # fmt: skip
    """avg_pool1d with two dims of space; divisor_override divides instead of the count"""
    how = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _avg_pool("avg_pool2d", 2, input, *how)


def avg_pool3d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
    divisor_override=None,
):  # fmt: skip
    """avg_pool2d with three dims of space"""
    how = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _avg_pool("avg_pool3d", 3, input, *how)


# ------------------------------------------------------------------------------ to a given size


def _bins(n, m):
    """n places cut into m bins, nearly equal, that may share their ends: starts and stops."""
    i = np.arange(m)
    return i * n // m, -(-(i + 1) * n // m)


def _target(name, output_size, space):
    n = len(space)
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * n
    sizes = [s if m is None else m for m, s in zip(given, space)]
    if len(given) != n or any(m < 0 for m in sizes) or 0 in space:
        raise ShapeError(
            f"{name}: output_size {output_size} for space {tuple(space)}: {n} sizes, none negative"
        )
    return sizes


def _adaptive_avg(name, n, input, output_size):
    x, lone = batched(name, input, n)
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"{name}: input is {x.array.dtype}, a mean needs floats")
    for d, m in enumerate(_target(name, output_size, x.array.shape[2:])):
        size = x.array.shape[2 + d]
        start, stop = _bins(size, m)
        place = np.arange(size)[:, None]
        share = ((place >= start) & (place < stop)) / (stop - start)  # (size, m), columns add to 1
        share = backend.to_device(share.astype(x.array.dtype), backend.device_of(x.array))
        x = transpose(matmul(transpose(x, 2 + d, -1), wrap(share)), 2 + d, -1)
    return squeeze(x, 0) if lone else x


def adaptive_avg_pool1d(input, output_size):
    """Means over output_size bins: bin i is [floor(i n / m), ceil((i + 1) n / m))

    Each mean is linear, so a dim is pooled by a product with the (n, m) matrix of shares.
    """
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input, output_size):
    """adaptive_avg_pool1d over height and width; None keeps a size"""
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input, output_size):
    """adaptive_avg_pool1d over depth, height and width; None keeps a size"""
    return _adaptive_avg("adaptive_avg_pool3d", 3, input, output_size)


@backend.on_its_device
def _adaptive_max(name, n, input, output_size, return_indices):
    x, lone = batched(name, input, n)
    space = x.array.shape[2:]
    where = np.zeros(1, np.int64)  # for each place in a window the place in the flat image
    for d, m in enumerate(_target(name, output_size, space)):
        start, stop = _bins(space[d], m)
        if m == 0:
            raise ShapeError(f"{name}: an output size of 0 has no largest element")
        width = (stop - start).max()
        places = np.minimum(start[:, None] + np.arange(width), stop[:, None] - 1)  # (m, width)
        inside = backend.to_device(places, backend.device_of(x.array))
        x = movedim(_getitem(x, (slice(None),) * (2 + d) + (inside,)), 3 + d, -1)
        where = where[..., None, :, None] * space[d] + places[:, None, :]
        where = where.reshape(*where.shape[:-2], -1)
    shape = x.array.shape
    windows = reshape(x, (*shape[: 2 + n], -1))
    place = _largest(windows)
    out = squeeze(gather(windows, 2 + n, place), -1)
    out = squeeze(out, 0) if lone else out
    if not return_indices:
        return out
    xp = backend.namespace_of(x.array)
    all_places = xp.broadcast_to(xp.asarray(where), windows.array.shape)
    index = xp.take_along_axis(all_places, place.array, -1)[..., 0]
    return out, wrap(index[0] if lone else index)


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """The largest of each of output_size bins, cut as in adaptive_avg_pool1d"""
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """adaptive_max_pool1d over height and width"""
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input, output_size, return_indices=False):
    """adaptive_max_pool1d over depth, height and width"""
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, return_indices)
