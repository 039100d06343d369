"""Ops that stand for several: one node on the tape, and fewer visits to memory.

Each is written with the forwards and rules of what it stands for.
"""

from __future__ import annotations

import math

import numpy as np

from .. import random
from ..autograd import user_line, wrap
from ..backend import namespace_of, on_its_device, using
from ..errors import ArgumentError, GraphError, ShapeError
from ..messages import one_dtype
from ..modes import is_grad_enabled
from ..op import Saved, op
from .activations import gelu
from .cross_entropy import _cross_entropy, as_input, check_targets, cross_entropy
from .elementwise import narrowed, widened
from .linalg import as_rows
from .losses import check_losses
from .nn import (
    _attention,
    _last_dims,
    _layer_norm,
    _linear,
    _rms_norm,
    beside,
    check_linear,
    linear,
    rms_eps,
)  # fmt: skip

# ------------------------------------------------------------------------------ attention


def split_heads(xp, x, n_head, parts):
    """(B, T, parts * C) as `parts` of (B, n_head, T, hs), hs = C / n_head"""
    B, T, width = x.shape
    heads = xp.transpose(
        xp.reshape(x, (B, T, parts, n_head, width // (parts * n_head))), (2, 0, 3, 1, 4)
    )
    return [heads[i] for i in range(parts)]


def merge_heads(xp, *heads):
    """What split_heads took apart: (B, n_head, T, hs), several times, as (B, T, parts * C)"""
    B, n_head, T, hs = heads[0].shape
    whole = xp.transpose(xp.stack(heads), (1, 3, 0, 2, 4))
    return xp.reshape(whole, (B, T, len(heads) * n_head * hs))


@op
def _packed_attention(xp, qkv, *, n_head, is_causal=False, scale=1.0, dropout_p=0.0, rng=None):
    """out = softmax(q k^T * scale) v in each head;  qkv (B, T, 3C), out (B, T, C)"""
    q, k, v = split_heads(xp, qkv, n_head, 3)
    out = _attention.op.forward(
        xp, q, k, v, is_causal=is_causal, scale=scale, dropout_p=dropout_p, rng=rng
    )
    return merge_heads(xp, out)


@_packed_attention.rule("qkv")
def _(xp, g, qkv, n_head, is_causal, scale, dropout_p, rng):
    q, k, v = split_heads(xp, qkv, n_head, 3)
    (g,) = split_heads(xp, g, n_head, 1)
    needs = (True, True, True, False)
    dq, dk, dv, _ = _attention.op.rules["query"].function(
        xp, g, q, k, v, None, is_causal, scale, dropout_p, rng, needs
    )
    return merge_heads(xp, dq, dk, dv)


def packed_attention(qkv, n_head, dropout_p=0.0, is_causal=False, scale=None):
    """Self-attention in n_head heads: queries, keys and values come out of one product.

    qkv (B, T, 3C) holds queries, keys and values, C = n_head * hs numbers each, head by head. The
    result, (B, T, C), is scaled_dot_product_attention's with the heads side by side again.
    """
    shape = tuple(qkv.array.shape)
    if len(shape) != 3 or shape[2] % (3 * n_head):
        raise ShapeError(
            f"packed_attention: qkv {shape} must be (B, T, 3C), C a multiple of n_head = {n_head}"
        )
    if not 0 <= dropout_p <= 1:
        raise ArgumentError(f"packed_attention: dropout_p must be in [0, 1], got {dropout_p}")
    B, T, width = shape
    scale = 1 / math.sqrt(width // (3 * n_head)) if scale is None else scale
    rng = random.default_generator.reserve(B * n_head * T * T) if dropout_p else None
    return _packed_attention(qkv, n_head, is_causal, scale, dropout_p, rng)


def cached_attention(qkv, n_head, keys, values, start):
    """packed_attention of each sequence's next token, beside the `start` tokens in a cache.

    qkv (B, 1, 3C); keys and values (B, n_head, slots, hs), whose slot `start` is filled, in place.
    The result, (B, 1, C), carries no gradient: for writing text, under no_grad().
    """
    shape, room = tuple(qkv.array.shape), tuple(keys.array.shape)
    if is_grad_enabled() and (qkv.requires_grad or keys.requires_grad or values.requires_grad):
        raise GraphError("cached_attention carries no gradient: call it under tt.no_grad()")
    hs = shape[-1] // (3 * n_head)
    fits = (shape[0], n_head, room[2], hs) if len(shape) == 3 and len(room) == 4 else None
    if room != fits or tuple(values.array.shape) != room or shape[1:] != (1, 3 * n_head * hs):
        raise ShapeError(
            f"cached_attention: qkv {shape} must be (B, 1, 3C), keys {room} and values "
            f"{tuple(values.array.shape)} (B, {n_head}, slots, C / {n_head})"
        )
    if not 0 <= start < room[2]:
        raise ArgumentError(f"cached_attention: slot {start} of {room[2]}: the cache is full")
    heads = qkv.array.reshape(shape[0], 3, n_head, 1, hs)
    seen, where = slice(start + 1), user_line()
    with using(heads):
        for i, cache in ((1, keys), (2, values)):
            cache.array[:, :, start : start + 1] = heads[:, i]
            cache._version[:] = cache._version[0] + 1, where
        past = keys.array[:, :, seen], values.array[:, :, seen]
        out = _attention.op.on(namespace_of(heads), heads[:, 0], *past, scale=1 / math.sqrt(hs))
    return wrap(out.reshape(shape[0], 1, n_head * hs))


# ------------------------------------------------------------------------------ add, then norm


@op
def _add_layer_norm(xp, x, residual, weight=None, bias=None, *, eps=1e-5):
    """total = x + residual;  out = LayerNorm(total) * weight + bias"""
    total = x + residual
    out, saved = _layer_norm.op.forward(xp, total, weight, bias, eps=eps)
    mean, inv_std = saved["mean"], saved["inv_std"]
    return out, total, Saved(mean=mean, inv_std=inv_std)


@_add_layer_norm.rule("x", "residual", "weight", "bias")
def _(xp, g, out, weight, mean, inv_std):
    g_out, g_total = g
    dx, d_weight, d_bias = _layer_norm.op.rules["x"].function(
        xp, g_out, out[1], weight, mean, inv_std
    )
    dx = dx + g_total
    return dx, dx, d_weight, d_bias


def add_layer_norm(input, residual, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(layer_norm(total), total) of total = input + residual, the step between two sublayers.

    input and residual have one shape; the rest is layer_norm's, over one dimension.
    """
    _check_sum("add_layer_norm", input, residual, normalized_shape, weight=weight, bias=bias)
    return _add_layer_norm(input, residual, weight, bias, eps)


@op
def _add_rms_norm(xp, x, residual, weight=None, *, eps=1e-6):
    """total = x + residual;  out = RMSNorm(total) * weight"""
    total = x + residual
    out, saved = _rms_norm.op.forward(xp, total, weight, eps=eps)
    inv_rms = saved["inv_rms"]
    return out, total, Saved(inv_rms=inv_rms)


@_add_rms_norm.rule("x", "residual", "weight")
def _(xp, g, out, weight, inv_rms):
    g_out, g_total = g
    dx, d_weight = _rms_norm.op.rules["x"].function(xp, g_out, out[1], weight, inv_rms)
    dx = dx + g_total
    return dx, dx, d_weight


def add_rms_norm(input, residual, normalized_shape, weight=None, eps=None):
    """(rms_norm(total), total) of total = input + residual: add_layer_norm with the other norm."""
    _check_sum("add_rms_norm", input, residual, normalized_shape, weight=weight)
    return _add_rms_norm(input, residual, weight, rms_eps(input, eps))


def _check_sum(name, input, residual, normalized_shape, **parameters):
    shape = _last_dims(name, input, normalized_shape, **parameters)
    one_dtype(name, input=input, residual=residual)
    a, b = tuple(input.array.shape), tuple(residual.array.shape)
    if a != b or len(shape) != 1:
        raise ShapeError(
            f"{name}: input {a} and residual {b} must have one shape, and normalized_shape "
            f"{shape} one dimension"
        )


# ------------------------------------------------------------------------------ the GELU MLP


@op
def _gelu_mlp(xp, x, fc, proj, fc_bias=None, proj_bias=None):
    """out = gelu(x fc^T + fc_bias) proj^T + proj_bias;  x (..., k), fc (h, k), proj (m, h)

    gelu is that of approximate='tanh'
    """
    pre = _linear.op.forward(xp, as_rows(x), fc, fc_bias)  # (n, h)
    hidden = gelu.on(xp, pre, approximate="tanh")
    out = _linear.op.forward(xp, hidden, proj, proj_bias).reshape((*x.shape[:-1], proj.shape[0]))
    return out, Saved(pre=pre, hidden=hidden)


@_gelu_mlp.rule("x", "fc", "proj", "fc_bias", "proj_bias")
def _(xp, g, x, fc, proj, fc_bias, proj_bias, pre, hidden):
    g, rules = as_rows(g), _linear.op.rules
    dx, d_weight, d_bias = (rules[name].function for name in ("x", "weight", "bias"))
    d_pre = gelu.op.rules["x"].function(xp, dx(g, proj), pre, "tanh")
    return (
        dx(d_pre, fc).reshape(x.shape),
        d_weight(xp, d_pre, x, fc.dtype),
        d_weight(xp, g, hidden, proj.dtype),
        None if fc_bias is None else d_bias(d_pre, fc_bias.dtype),
        None if proj_bias is None else d_bias(g, proj_bias.dtype),
    )


def gelu_mlp(input, fc_weight, fc_bias, proj_weight, proj_bias):
    """linear(gelu(linear(input, fc_weight, fc_bias), approximate="tanh"), proj_weight, proj_bias)

    input (..., k), fc_weight (h, k), fc_bias (h,) or None, proj_weight (m, h), proj_bias (m,) or
    None. Where there is a kernel for it, GELU and its gradient cost no visit to memory.
    """
    op = _gelu_mlp.op
    if op.implementations[namespace_of(input.array).__name__] is op.forward:
        hidden = gelu(linear(input, fc_weight, fc_bias), approximate="tanh")
        return linear(hidden, proj_weight, proj_bias)
    check_mlp("gelu_mlp", input, fc_weight, fc_bias, proj_weight, proj_bias)
    return _gelu_mlp(input, fc_weight, proj_weight, fc_bias, proj_bias)


def check_mlp(name, input, fc_weight, fc_bias, proj_weight, proj_bias):
    """Do gelu_mlp's arguments go together?"""
    check_linear(name, input, fc_weight, fc_bias)
    one_dtype(name, input=input, proj_weight=proj_weight, proj_bias=proj_bias)
    h, m = fc_weight.array.shape[0], proj_weight.array.shape[0]
    for which, t, shape in (("proj_weight", proj_weight, (m, h)), ("proj_bias", proj_bias, (m,))):
        if t is not None and tuple(t.array.shape) != shape:
            raise ShapeError(
                f"{name}: {which} {tuple(t.array.shape)} must be {shape} after fc_weight "
                f"{tuple(fc_weight.array.shape)}"
            )


# ------------------------------------------------------------------------------ linear, then loss


@op
def _linear_cross_entropy(
    xp, x, weight, bias=None, *, target=None, ignore_index=-100, divisor=1, ahead=False
):
    """out = (sum of -ln softmax(x weight^T + bias)[target]) / divisor;  x (..., C), target (...)

    out is float32 also of half precision
    ahead: a gradient will be asked for, so the forward may as well make it
    """
    logits = as_rows(_linear.op.forward(xp, x, weight, bias))
    losses, saved = _cross_entropy.op.forward(
        xp, logits, target=target.reshape(-1), ignore_index=ignore_index
    )
    lse = saved["lse"]
    return losses.sum() / divisor, Saved(lse=lse)


@_linear_cross_entropy.rule("x", "weight", "bias")
def _(xp, g, x, weight, bias, target, ignore_index, divisor, lse):
    logits = as_rows(_linear.op.forward(xp, x, weight, bias))
    d_logits = _cross_entropy.op.rules["logits"].function(
        xp, g / divisor, logits, target.reshape(-1), ignore_index, lse
    )
    dx = (d_logits @ beside(x, weight)).reshape(x.shape)
    d_weight = narrowed(xp.swapaxes(d_logits, 0, 1) @ as_rows(x), weight.dtype)
    d_bias = None if bias is None else narrowed(widened(d_logits).sum(axis=0), bias.dtype)
    return dx, d_weight, d_bias


@on_its_device
def fused_linear_cross_entropy(
    input, linear_weight, target, *, linear_bias=None, weight=None, reduction="mean",
    ignore_index=-100, label_smoothing=0.0,
):  # fmt: skip
    """cross_entropy(linear(input, linear_weight, linear_bias), target): a language model's end.

    input (N, C) or (C,), linear_weight (V, C), linear_bias (V,), target (N,) or (): class numbers
    below V; the rest is cross_entropy's. Where there is a kernel for it, the logits, (N, V), are
    never in memory at once.
    """
    check_losses("fused_linear_cross_entropy", input, target, reduction)
    check_linear("fused_linear_cross_entropy", input, linear_weight, linear_bias)
    op = _linear_cross_entropy.op
    kernel = op.implementations[namespace_of(input.array).__name__] is not op.forward
    plain = weight is None and not label_smoothing and target.array.dtype.kind in "iu"
    if reduction == "none" or not kernel or not plain:
        logits = linear(input, linear_weight, linear_bias)
        return cross_entropy(
            logits, target, weight, ignore_index=ignore_index, reduction=reduction,
            label_smoothing=label_smoothing,
        )  # fmt: skip
    lead, classes = tuple(input.array.shape[:-1]), linear_weight.array.shape[0]
    if tuple(target.array.shape) != lead or len(lead) > 1:
        raise ShapeError(
            f"fused_linear_cross_entropy: input {tuple(input.array.shape)} must be (N, C) or (C,), "
            f"target {tuple(target.array.shape)} must be {lead}, input without its last dimension"
        )
    check_targets("fused_linear_cross_entropy", target, ignore_index, classes)
    divisor = (target.array != ignore_index).sum() if reduction == "mean" else 1
    if isinstance(divisor, np.generic):
        divisor = divisor.item()  # on a GPU it stays there: nobody waits for it
    leaves = [t for t in (input, linear_weight, linear_bias) if t is not None]
    ahead = is_grad_enabled() and any(t.requires_grad for t in leaves)
    loss = _linear_cross_entropy(
        input, linear_weight, linear_bias, target.array, ignore_index, divisor, ahead
    )
    return as_input(loss, input)
