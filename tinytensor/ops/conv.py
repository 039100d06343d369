"""Convolutions in 1, 2 and 3 dims of space, as matrix products with windows (im2col).

x (N, C, *S), weight (O, C/groups, *K) and a gradient g (N, O, *L) meet in one number,

    T = sum over n, o, c, i, k of  x[n, c, i * stride + k * dilation] weight[o, c, k] g[n, o, i]

which is linear in each of them. A convolution is dT/dg, the gradient in its input (and with it the
transposed convolution) dT/dx, the gradient in its weight dT/dweight: three ops, whose rules are one
another. Windows are laid out as one matrix (C/groups K, N L) per group: one product for all.
"""

from __future__ import annotations

import math

from ..errors import ShapeError
from ..op import op
from .elementwise import add
from .linalg import product
from .pad import pad
from .shape import reshape, squeeze
from .windows import _overlap_add, _windows, batched, both_sides, check_dtypes, count, each

# ------------------------------------------------------------------------------ the three ops


def _columns(xp, x, size, stride, dilation, groups):
    """x (N, C, *S) as (groups, C/groups K, N L), and the shape L of the places."""
    windows = _windows.on(xp, x, size=size, stride=stride, dilation=dilation)
    n = len(size)
    places, inside = range(2, 2 + n), range(2 + n, 2 + 2 * n)
    moved = windows.transpose((1, *inside, 0, *places))
    per_group = x.shape[1] // groups * math.prod(size)
    space = windows.shape[2 : 2 + n]
    return moved.reshape((groups, per_group, x.shape[0] * math.prod(space))), space


def _by_group(xp, g, groups):
    """g (N, O, *L) as (groups, O/groups, N L)."""
    n, o = g.shape[:2]
    return xp.swapaxes(g, 0, 1).reshape((groups, o // groups, n * math.prod(g.shape[2:])))


@op
def _conv(xp, x, weight, *, stride, dilation, groups):
    """out[n, o, i] = sum over c, k of x[n, c, i * stride + k * dilation] weight[o, c, k]"""
    o, size = weight.shape[0], weight.shape[2:]
    columns, space = _columns(xp, x, size, stride, dilation, groups)
    out = product(xp, weight.reshape((groups, o // groups, columns.shape[1])), columns)
    return xp.ascontiguousarray(xp.swapaxes(out.reshape((o, x.shape[0], *space)), 0, 1))


@op
def _conv_input(xp, grad, weight, *, space, stride, dilation, groups):
    """out[n, c, i * stride + k * dilation] = sum over o, i, k of grad[n, o, i] weight[o, c, k]"""
    o, per_group, *size = weight.shape
    w = weight.reshape((groups, o // groups, per_group * math.prod(size)))
    w = xp.swapaxes(w, 1, 2)
    columns = product(xp, w, _by_group(xp, grad, groups))  # (groups, C/groups K, N L)
    windows = columns.reshape((groups * per_group, *size, grad.shape[0], *grad.shape[2:]))
    n = len(size)
    inside, places = range(1, 1 + n), range(2 + n, 2 + 2 * n)
    windows = windows.transpose((1 + n, 0, *places, *inside))
    return _overlap_add.on(xp, windows, space=space, stride=stride, dilation=dilation)


@op
def _conv_weight(xp, x, grad, *, size, stride, dilation, groups):
    """out[o, c, k] = sum over n, i of x[n, c, i * stride + k * dilation] grad[n, o, i]"""
    columns, _ = _columns(xp, x, size, stride, dilation, groups)
    out = product(xp, _by_group(xp, grad, groups), xp.swapaxes(columns, 1, 2))
    return out.reshape((grad.shape[1], x.shape[1] // groups, *size))


@_conv.rule("x")
def _(xp, g, x_shape, weight, stride, dilation, groups):
    how = {"stride": stride, "dilation": dilation, "groups": groups}
    return _conv_input.on(xp, g, weight, space=x_shape[2:], **how)


@_conv.rule("weight")
def _(xp, g, x, weight_shape, stride, dilation, groups):
    how = {"stride": stride, "dilation": dilation, "groups": groups}
    return _conv_weight.on(xp, x, g, size=weight_shape[2:], **how)


@_conv_input.rule("grad")
def _(xp, g, weight, stride, dilation, groups):
    return _conv.on(xp, g, weight, stride=stride, dilation=dilation, groups=groups)


@_conv_input.rule("weight")
def _(xp, g, grad, weight_shape, stride, dilation, groups):
    how = {"stride": stride, "dilation": dilation, "groups": groups}
    return _conv_weight.on(xp, g, grad, size=weight_shape[2:], **how)


@_conv_weight.rule("x")
def _(xp, g, x_shape, grad, stride, dilation, groups):
    how = {"stride": stride, "dilation": dilation, "groups": groups}
    return _conv_input.on(xp, grad, g, space=x_shape[2:], **how)


@_conv_weight.rule("grad")
def _(xp, g, x, stride, dilation, groups):
    return _conv.on(xp, x, g, stride=stride, dilation=dilation, groups=groups)


# ------------------------------------------------------------------------------ convolution


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """out[n, o, i] = bias[o] + sum over c, k of input[n, c, i stride + k dilation] weight[o, c, k]

    input (N, C, L) or (C, L), weight (O, C/groups, K), bias (O,). padding: zeros at both ends, or
    'valid' (none), or 'same' (as many as keep the size; stride 1).
    """
    return _convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """conv1d with two dims of space: input (N, C, H, W), weight (O, C/groups, kh, kw)"""
    return _convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """conv1d with three dims of space: input (N, C, D, H, W), weight (O, C/groups, kd, kh, kw)"""
    return _convolve("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _convolve(name, n, input, weight, bias, stride, padding, dilation, groups):
    x, lone = batched(name, input, n)
    _check(name, n, x, weight, bias, groups, weight.array.shape[0])
    if x.array.shape[1] != weight.array.shape[1] * groups:
        raise ShapeError(
            f"{name}: input {tuple(input.array.shape)} has {x.array.shape[1]} channels, weight "
            f"{tuple(weight.array.shape)} with {groups} groups {weight.array.shape[1] * groups}"
        )
    size = weight.array.shape[2:]
    stride, dilation = each(name, "stride", stride, n), each(name, "dilation", dilation, n)
    ends = _ends(name, padding, size, stride, dilation)
    space = [s + a + b for s, (a, b) in zip(x.array.shape[2:], ends)]
    if any(count(*four) < 1 for four in zip(space, size, stride, dilation)):
        raise ShapeError(
            f"{name}: input of {tuple(space)} after padding is smaller than a kernel of {size}"
        )
    x = pad(x, both_sides(ends)) if any(p for end in ends for p in end) else x
    return _finished(_conv(x, weight, stride, dilation, groups), bias, lone)


def _ends(name, padding, size, stride, dilation):
    """How many zeros come before and after, per dim."""
    if padding == "valid":
        return [(0, 0)] * len(size)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ShapeError(f"{name}: padding='same' needs stride 1, got {stride}")
        total = [d * (k - 1) for d, k in zip(dilation, size)]
        return [(t // 2, t - t // 2) for t in total]
    if isinstance(padding, str):
        raise ShapeError(f"{name}: padding must be numbers, 'same' or 'valid', got {padding!r}")
    return [(p, p) for p in each(name, "padding", padding, len(size), 0)]


def _check(name, n, x, weight, bias, groups, channels_out):
    check_dtypes(name, input=x, weight=weight, bias=bias)
    if weight.array.ndim != n + 2:
        raise ShapeError(f"{name}: weight {tuple(weight.array.shape)} must have {n + 2} dims")
    if groups < 1 or weight.array.shape[0] % groups:
        raise ShapeError(
            f"{name}: weight {tuple(weight.array.shape)} does not divide into {groups} groups"
        )
    if bias is not None and tuple(bias.array.shape) != (channels_out,):
        raise ShapeError(
            f"{name}: bias {tuple(bias.array.shape)} must be ({channels_out},), a number a channel"
        )


def _finished(out, bias, lone):
    if bias is not None:
        out = add(out, reshape(bias, (-1, *[1] * (out.array.ndim - 2))))
    return squeeze(out, 0) if lone else out


# ------------------------------------------------------------------------------ transposed


def conv_transpose1d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """The transpose of conv1d: every input element spreads weight, scaled by itself, at its place

    input (N, C, L), weight (C, O/groups, K); padding cuts that much off both ends of the result,
    output_padding adds to its far end, for the sizes that a strided conv1d maps to the same one.
    """
    how = (stride, padding, output_padding, groups, dilation)
    return _spread("conv_transpose1d", 1, input, weight, bias, *how)


def conv_transpose2d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """conv_transpose1d with two dims of space: input (N, C, H, W), weight (C, O/groups, kh, kw)"""
    how = (stride, padding, output_padding, groups, dilation)
    return _spread("conv_transpose2d", 2, input, weight, bias, *how)


def conv_transpose3d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """conv_transpose1d with three dims of space"""
    how = (stride, padding, output_padding, groups, dilation)
    return _spread("conv_transpose3d", 3, input, weight, bias, *how)


def _spread(name, n, input, weight, bias, stride, padding, output_padding, groups, dilation):
    x, lone = batched(name, input, n)
    _check(name, n, x, weight, bias, groups, weight.array.shape[1] * groups)
    if x.array.shape[1] != weight.array.shape[0]:
        raise ShapeError(
            f"{name}: input {tuple(input.array.shape)} has {x.array.shape[1]} channels, weight "
            f"{tuple(weight.array.shape)} {weight.array.shape[0]}"
        )
    stride, dilation = each(name, "stride", stride, n), each(name, "dilation", dilation, n)
    padding = each(name, "padding", padding, n, 0)
    extra = each(name, "output_padding", output_padding, n, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation)):
        raise ShapeError(
            f"{name}: output_padding {extra} must be smaller than stride {stride} or dilation"
        )
    size = weight.array.shape[2:]
    four = zip(x.array.shape[2:], size, stride, dilation)
    space = tuple((i - 1) * s + d * (k - 1) + 1 for i, k, s, d in four)
    out = _conv_input(x, weight, space, stride, dilation, groups)
    ends = [(-p, e - p) for p, e in zip(padding, extra)]
    if any(p for end in ends for p in end):
        out = pad(out, both_sides(ends))
    return _finished(out, bias, lone)
