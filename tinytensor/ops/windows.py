"""Windows over the last dims: what convolutions and pooling are made of.

    windows(x)[..., i, ..., k] = x[..., i * stride + k * dilation, ...]      a view, no copy
    overlap_add: each window added back at the place where it came from      its transpose
"""

from __future__ import annotations

import math

import numpy as np

from ..autograd import Variable
from ..errors import ArgumentError, DtypeError, ShapeError
from ..op import op
from .pad import pad
from .shape import permute, reshape, squeeze, unsqueeze

# ------------------------------------------------------------------------------ windows


@op
def _windows(xp, x, *, size, stride, dilation):
    """x (..., *S) as (..., *O, *size), over the last len(size) dims"""
    n = len(size)
    lead, space = x.ndim - n, x.shape[x.ndim - n :]
    counts = [count(s, k, step, d) for s, k, step, d in zip(space, size, stride, dilation)]
    strides = x.strides[lead:]
    return xp.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:lead], *counts, *size),
        (
            *x.strides[:lead],
            *[s * step for s, step in zip(strides, stride)],
            *[s * d for s, d in zip(strides, dilation)],
        ),
    )


@op
def _overlap_add(xp, x, *, space, stride, dilation):
    """Windows x (..., *O, *size) added up at their places in zeros (..., *space)"""
    n = len(space)
    lead, counts, size = x.shape[: x.ndim - 2 * n], x.shape[-2 * n : -n], x.shape[-n:]
    out = xp.zeros((*lead, *space), x.dtype)
    for offset in np.ndindex(*size):  # one visit of the output per place in the window
        places = tuple(
            slice(k * d, k * d + step * (c - 1) + 1, step) if c else slice(0, 0)
            for k, d, step, c in zip(offset, dilation, stride, counts)
        )
        out[(..., *places)] += x[(..., *offset)]
    return out


@_windows.rule("x")
def _(xp, g, x_shape, size, stride, dilation):
    space = x_shape[len(x_shape) - len(size) :]
    return _overlap_add.on(xp, g, space=space, stride=stride, dilation=dilation)


@_overlap_add.rule("x")
def _(xp, g, x_shape, space, stride, dilation):
    size = x_shape[len(x_shape) - len(space) :]
    return _windows.on(xp, g, size=size, stride=stride, dilation=dilation)


def count(n, size, stride, dilation):
    """How many windows fit."""
    return max((n - dilation * (size - 1) - 1) // stride + 1, 0)


def each(name, what, value, n, least=1):
    """One number for all dims, or one a dim."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * n
    values = values * n if len(values) == 1 else values
    if len(values) != n or any(v < least for v in values):
        raise WindowError(f"{name}: {what} {value} must be {n} numbers, each at least {least}")
    return values


class WindowError(ShapeError):
    """Windows that do not fit what they are laid over."""


def check_dtypes(name, **tensors):
    first = next(iter(tensors.values()))
    for which, t in tensors.items():
        if t is None:
            continue
        if not isinstance(t, Variable):
            raise ArgumentError(f"{name}: {which} must be a Tensor, got {type(t).__name__}")
        if t.array.dtype != first.array.dtype:
            raise DtypeError(
                f"{name}: input is {first.array.dtype}, {which} is {t.array.dtype}: cast one"
            )


def both_sides(padding):
    """(p, q) of two dims as pad() takes it: last dim first, before and after."""
    return [p for d in reversed(padding) for p in (d if isinstance(d, tuple) else (d, d))]


def batched(name, input, n):
    """input (C, *S) or (N, C, *S) with its N, and whether that was added."""
    if input.array.ndim not in (n + 1, n + 2):
        raise ShapeError(
            f"{name}: input {tuple(input.array.shape)} must have {n + 1} or {n + 2} dims: "
            f"(C, {n} of space) or (N, C, {n} of space)"
        )
    lone = input.array.ndim == n + 1
    return (unsqueeze(input, 0) if lone else input), lone


# ------------------------------------------------------------------------------ as columns


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """(N, C, H, W) as (N, C kh kw, L): each of the L windows a column ("im2col")"""
    size, dilation, padding, stride = _four("unfold", kernel_size, dilation, padding, stride)
    x, lone = batched("unfold", input, 2)
    x = pad(x, both_sides(padding))
    w = _windows(x, size, stride, dilation)  # (N, C, OH, OW, kh, kw)
    n, c, oh, ow = w.array.shape[:4]
    if oh < 1 or ow < 1:
        raise ShapeError(f"unfold: input {tuple(input.array.shape)} is smaller than {size} windows")
    out = reshape(permute(w, (0, 1, 4, 5, 2, 3)), (n, c * math.prod(size), oh * ow))
    return squeeze(out, 0) if lone else out


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """(N, C kh kw, L) columns added up to (N, C, H, W) where windows overlap: unfold's transpose"""
    size, dilation, padding, stride = _four("fold", kernel_size, dilation, padding, stride)
    space = each("fold", "output_size", output_size, 2)
    lone = input.array.ndim == 2
    x = unsqueeze(input, 0) if lone else input
    grown = tuple(s + 2 * p for s, p in zip(space, padding))
    counts = [count(*four) for four in zip(grown, size, stride, dilation)]
    n, rows, columns = x.array.shape
    if rows % math.prod(size) or columns != math.prod(counts):
        raise ShapeError(
            f"fold: input {tuple(input.array.shape)}: there must be a multiple of "
            f"{math.prod(size)} rows and {math.prod(counts)} columns, one for each window"
        )
    x = reshape(x, (n, rows // math.prod(size), *size, *counts))
    out = _overlap_add(permute(x, (0, 1, 4, 5, 2, 3)), grown, stride, dilation)
    out = pad(out, [-p for p in both_sides(padding)])
    return squeeze(out, 0) if lone else out


def _four(name, kernel_size, dilation, padding, stride):
    return (
        each(name, "kernel_size", kernel_size, 2),
        each(name, "dilation", dilation, 2),
        each(name, "padding", padding, 2, 0),
        each(name, "stride", stride, 2),
    )
