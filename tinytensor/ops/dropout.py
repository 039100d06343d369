"""Dropout of whole channels, and dropout that keeps mean and variance for SELU."""

from __future__ import annotations

import math

from ..autograd import wrap
from ..backend import namespace_of, on_its_device
from ..errors import ArgumentError, ShapeError
from .elementwise import add, mul
from .nn import dropout


@on_its_device
def _ones(x, shape):
    return wrap(namespace_of(x.array).ones(shape, x.array.dtype))


def _by_channel(name, input, p, training, dims, unbatched):
    if not 0 <= p <= 1:
        raise ArgumentError(f"{name}: p must be between 0 and 1, got {p}")
    shape = tuple(input.array.shape)
    if len(shape) not in dims:
        raise ShapeError(f"{name}: input {shape} must have {' or '.join(map(str, dims))} dims")
    if not training or p == 0:
        return input
    kept = 1 if len(shape) == unbatched else 2  # (C, ...) or (N, C, ...)
    mask = dropout(_ones(input, shape[:kept] + (1,) * (len(shape) - kept)), p)
    return mul(input, mask)


def dropout1d(input, p=0.5, training=True):
    """Zero each channel of input (N, C, L) or (C, L) with probability p, scale the others"""
    return _by_channel("dropout1d", input, p, training, (2, 3), 2)


def dropout2d(input, p=0.5, training=True):
    """Zero each channel of input (N, C, H, W) with probability p, scale the others
    (Tompson et al. 2014)"""
    return _by_channel("dropout2d", input, p, training, (2, 3, 4), None)


def dropout3d(input, p=0.5, training=True):
    """Zero each channel of input (N, C, D, H, W) or (C, D, H, W) with probability p"""
    return _by_channel("dropout3d", input, p, training, (4, 5), 4)


def alpha_dropout(input, p=0.5, training=False):
    """a * (input or, with probability p, -1.7581) + b: keeps mean 0 and variance 1
    (Klambauer et al. 2017, for SELU)

    a = ((1 - p) (1 + p 1.7581^2))^(-1/2),  b = 1.7581 a p
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"alpha_dropout: p must be between 0 and 1, got {p}")
    if not training or p == 0:
        return input
    if p == 1:
        return mul(input, 0)
    low = 1.7580993408473766  # selu(-infinity), less its sign
    kept = mul(dropout(_ones(input, input.array.shape), p), 1 - p)  # 1 or 0
    a = 1 / math.sqrt((1 - p) * (1 + p * low * low))
    return add(mul(input, mul(kept, a)), mul(add(kept, -1), low * a) + low * a * p)
