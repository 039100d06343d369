"""Normalisation over batches, groups of channels, single images: mean 0, variance 1, then affine.

    x_hat = (x - mean) / sqrt(var + eps)  over some dims;   out = x_hat * weight + bias per channel
"""

from __future__ import annotations

import math

import numpy as np

from ..autograd import no_grad, wrap
from ..backend import namespace_of, on_its_device
from ..errors import ShapeError
from ..messages import one_dtype
from ..op import Saved, op
from .elementwise import add, mul, narrowed, rsqrt, sub, widened
from .pad import pad
from .pool import avg_pool2d
from .shape import reshape


@op
def _normalize(xp, x, *, dims, eps):
    """out = (x - mean) * inv_std,  inv_std = 1 / sqrt(mean of (x - mean)^2 + eps), over dims"""
    wide = widened(x)
    centred = wide - wide.mean(axis=dims, keepdims=True)
    inv_std = 1 / xp.sqrt((centred * centred).mean(axis=dims, keepdims=True) + eps)
    return narrowed(centred * inv_std, x.dtype), Saved(inv_std=inv_std)


@_normalize.rule("x")
def _(g, out, inv_std, dims):
    """g, less its part along the constant and its part along out: neither changes out"""
    dtype, g, out = out.dtype, widened(g), widened(out)
    constant = g.mean(axis=dims, keepdims=True)
    along = out * (g * out).mean(axis=dims, keepdims=True)
    return narrowed(inv_std * (g - constant - along), dtype)


def _per_channel(x, parameter):
    """(C,) beside x (N, C, ...)"""
    return reshape(parameter, (-1, *[1] * (x.array.ndim - 2)))


def _affine(name, x, weight, bias):
    channels = x.array.shape[1]
    one_dtype(name, input=x, weight=weight, bias=bias)
    for which, p in (("weight", weight), ("bias", bias)):
        if p is not None and tuple(p.array.shape) != (channels,):
            raise ShapeError(
                f"{name}: {which} {tuple(p.array.shape)} must be ({channels},), a number a channel"
            )
    x = x if weight is None else mul(x, _per_channel(x, weight))
    return x if bias is None else add(x, _per_channel(x, bias))


def _check(name, x, **running):
    if x.array.ndim < 2:
        raise ShapeError(f"{name}: input {tuple(x.array.shape)} must be (N, C, ...)")
    if len({r is None for r in running.values()}) > 1:
        raise ShapeError(f"{name}: pass running_mean and running_var, both of them or neither")
    one_dtype(name, **running)
    for which, r in running.items():
        if r is not None and r.array.size != x.array.shape[1]:
            raise ShapeError(
                f"{name}: {which} {tuple(r.array.shape)} must have {x.array.shape[1]} elements, "
                "one for each channel of input (dim 1)"
            )


def batch_norm(
    input, running_mean=None, running_var=None, weight=None, bias=None, training=False,
    momentum=0.1, eps=1e-5,
):  # fmt: skip
    """x_hat * weight + bias for each channel of input (N, C, ...) (Ioffe & Szegedy 2015)

    training  statistics of this batch, over all dims but 1; the running ones move towards them,
              running += momentum * (batch - running), the variance by n - 1. Else the running ones
    """
    _check("batch_norm", input, running_mean=running_mean, running_var=running_var)
    if not training and running_mean is not None and running_var is not None:
        scale = rsqrt(add(running_var, eps))
        x = sub(input, _per_channel(input, running_mean))
        return _affine("batch_norm", mul(x, _per_channel(input, scale)), weight, bias)
    dims = (0, *range(2, input.array.ndim))
    n = math.prod(input.array.shape[d] for d in dims)
    if training and n <= 1:
        raise ShapeError(
            f"batch_norm: input {tuple(input.array.shape)} has {n} number a channel: training "
            "needs more than 1 value per channel for a variance"
        )
    out = _affine("batch_norm", _normalize(input, dims, eps), weight, bias)
    if training:
        _follow(input, running_mean, running_var, momentum, dims, 0)
    return out


@on_its_device
def _follow(x, running_mean, running_var, momentum, dims, extra):
    """running += momentum * (that of x - running); `extra` dims more are averaged afterwards."""
    n = math.prod(x.array.shape[d] for d in dims)
    with no_grad():
        for running, of in ((running_mean, np.mean), (running_var, np.var)):
            if running is None:
                continue
            xp = namespace_of(x.array)
            now = xp.mean(x.array, axis=dims) if of is np.mean else xp.var(x.array, axis=dims)
            now = now if of is np.mean else now * (n / max(n - 1, 1))
            now = now.mean(axis=0) if extra else now
            running.lerp_(wrap(xp.asarray(now, running.array.dtype)), momentum)


def instance_norm(
    input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True,
    momentum=0.1, eps=1e-5,
):  # fmt: skip
    """batch_norm with statistics of each image and channel by itself (Ulyanov et al. 2016)"""
    _check("instance_norm", input, running_mean=running_mean, running_var=running_var)
    if not use_input_stats:
        how = (weight, bias, False, momentum, eps)
        return batch_norm(input, running_mean, running_var, *how)
    dims = tuple(range(2, input.array.ndim))
    if math.prod(input.array.shape[2:]) <= 1:
        raise ShapeError(
            f"instance_norm: input {tuple(input.array.shape)}: a variance needs more than 1 "
            "element of space"
        )
    out = _affine("instance_norm", _normalize(input, dims, eps), weight, bias)
    _follow(input, running_mean, running_var, momentum, dims, 1)
    return out


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """x_hat * weight + bias, x_hat over each image's groups of C / num_groups channels
    (Wu & He 2018); input (N, C, ...), weight and bias (C,)"""
    _check("group_norm", input)
    shape = tuple(input.array.shape)
    if num_groups < 1 or shape[1] % num_groups:
        raise ShapeError(
            f"group_norm: input {shape}: {shape[1]} channels do not divide into {num_groups} groups"
        )
    rows = reshape(input, (shape[0], num_groups, math.prod(shape[1:]) // num_groups))
    return _affine("group_norm", reshape(_normalize(rows, (2,), eps), shape), weight, bias)


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """input / (k + alpha * mean of input^2 over `size` channels around each)^beta
    (Krizhevsky et al. 2012)"""
    shape = tuple(input.array.shape)
    if len(shape) < 3:
        raise ShapeError(f"local_response_norm: input {shape} must be (N, C, ...)")
    n, channels = shape[:2]
    squares = reshape(mul(input, input), (n, 1, channels, math.prod(shape[2:])))
    squares = pad(squares, (0, 0, size // 2, (size - 1) // 2))
    near = reshape(avg_pool2d(squares, (size, 1), 1), shape)
    return input / (near * alpha + k) ** beta
