"""Ops of neural networks: softmax, linear, layer_norm, dropout, attention.

Each forward stands next to its backward; g is dL/dout. Of half precision, sums and what is made
of them are computed in float32.
"""

from __future__ import annotations

import math

import numpy as np

from .. import random
from ..autograd import unbroadcast
from ..errors import ArgumentError, DtypeError, ShapeError
from ..messages import one_dtype
from ..op import Saved, op
from .elementwise import narrowed, widened
from .linalg import as_rows
from .shape import canonical, reshape, squeeze, tril, unsqueeze

# ------------------------------------------------------------------------------ softmax


@op
def _softmax(xp, x, *, dim):
    """out = e^x / sum of e^x over dim, shifted by the largest x so that nothing overflows"""
    if x.ndim == 0:
        return xp.ones_like(x)
    wide = widened(x)
    e = xp.exp(wide - wide.max(axis=dim, keepdims=True)) if x.size else wide
    return narrowed(e / e.sum(axis=dim, keepdims=True), x.dtype)


@_softmax.rule("x")
def _(xp, g, out, dim):  # the Jacobian is diag(out) - out out^T
    if g.ndim == 0:
        return g * 0
    dx = softmax_gradient(widened(out), widened(g), dim)
    return narrowed(dx, out.dtype)


def softmax_gradient(P, dP, dim):
    return P * (dP - (dP * P).sum(axis=dim, keepdims=True))


@op
def _log_softmax(xp, x, *, dim):
    """out = x - ln(sum of e^x over dim)"""
    if x.ndim == 0:
        return xp.zeros_like(x)
    wide = widened(x)
    wide = wide - wide.max(axis=dim, keepdims=True) if x.size else wide
    return narrowed(wide - xp.log(xp.exp(wide).sum(axis=dim, keepdims=True)), x.dtype)


@_log_softmax.rule("x")
def _(xp, g, out, dim):
    if g.ndim == 0:
        return g * 0
    wide = widened(g)
    return narrowed(wide - xp.exp(widened(out)) * wide.sum(axis=dim, keepdims=True), out.dtype)


def _floats(name, x):
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"{name}: x is {x.array.dtype}, {name} needs floats: x.float()")
    return x


def softmax(x, dim, *, dtype=None, axis=None):
    """out = e^x / sum of e^x over dim: non-negative, adding up to 1 along dim."""
    dim = dim if axis is None else axis
    x = _floats("softmax", x if dtype is None else x.to(dtype))
    return _softmax(x, canonical(dim, x.array.ndim))


def log_softmax(x, dim, *, dtype=None, axis=None):
    """out = ln softmax(x, dim), without forming the softmax."""
    dim = dim if axis is None else axis
    x = _floats("log_softmax", x if dtype is None else x.to(dtype))
    return _log_softmax(x, canonical(dim, x.array.ndim))


# ------------------------------------------------------------------------------ linear, norms


@op
def _linear(xp, x, weight, bias=None):
    """out = x @ weight^T + bias;  x (..., k), weight (m, k), bias (m,)

    weight and bias may be float32 beside an x in half precision, and then their gradients are
    """
    w, b = beside(x, weight), beside(x, bias)
    out = (as_rows(x) @ xp.swapaxes(w, 0, 1)).reshape((*x.shape[:-1], weight.shape[0]))
    return out if bias is None else out + b


def beside(x, parameter):
    """A parameter as it is multiplied with x"""
    half = x.dtype.itemsize == 2 and parameter is not None
    return narrowed(parameter, x.dtype) if half else parameter


_linear.rule(
    "x",
    lambda g, weight: (as_rows(g) @ beside(g, weight)).reshape((*g.shape[:-1], weight.shape[1])),
)
_linear.rule(
    "weight",
    lambda xp, g, x, weight_dtype: narrowed(
        xp.swapaxes(as_rows(g), 0, 1) @ as_rows(x), weight_dtype
    ),
)
_linear.rule(
    "bias", lambda g, bias_dtype: narrowed(widened(as_rows(g)).sum(axis=0), bias_dtype)
)


def linear(input, weight, bias=None):
    """out = input @ weight^T + bias;  input (..., in), weight (out, in), bias (out,)"""
    if weight.array.ndim == 1:
        out = squeeze(_linear(input, unsqueeze(weight, 0), None), -1)
        return out if bias is None else out + bias
    check_linear("linear", input, weight, bias)
    return _linear(input, weight, bias)


def check_linear(name, input, weight, bias):
    """Do input (..., in), weight (out, in) and bias (out,), or None, go together?"""
    w, b = weight.array.shape, None if bias is None else bias.array.shape
    if input.array.ndim == 0 or input.array.shape[-1] != w[-1]:
        raise ShapeError(
            f"{name}: input {tuple(input.array.shape)} and weight {tuple(w)}: the last axis of "
            f"input must be {w[-1]}, the last of weight"
        )
    if b is not None and b != (w[0],):
        raise ShapeError(f"{name}: bias {tuple(b)} and weight {tuple(w)}: bias must be ({w[0]},)")
    one_dtype(name, input=input, weight=weight, bias=bias)


@op
def _layer_norm(xp, x, weight=None, bias=None, *, eps=1e-5):
    """x_hat = (x - mean) * inv_std over the last axis;  out = x_hat * weight + bias"""
    wide = widened(x)
    mean = wide.mean(axis=-1, keepdims=True)
    inv_std = 1 / xp.sqrt(((wide - mean) ** 2).mean(axis=-1, keepdims=True) + eps)
    out = (wide - mean) * inv_std
    if weight is not None:
        out = out * weight
    if bias is not None:
        out = out + bias
    return narrowed(out, x.dtype), Saved(mean=mean, inv_std=inv_std)


@_layer_norm.rule("x", "weight", "bias")
def _(xp, g, x, weight, mean, inv_std):
    x_hat, g = (widened(x) - mean) * inv_std, widened(g)
    g_hat = g if weight is None else g * weight
    dx = inv_std * (
        g_hat
        - g_hat.mean(axis=-1, keepdims=True)
        - x_hat * (g_hat * x_hat).mean(axis=-1, keepdims=True)
    )
    size, dtype = g.shape[-1:], g.dtype if weight is None else weight.dtype
    d_weight, d_bias = unbroadcast(g * x_hat, size), unbroadcast(g, size)
    return narrowed(dx, x.dtype), narrowed(d_weight, dtype), narrowed(d_bias, dtype)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dims (Ba, Kiros, Hinton 2016).

    normalized_shape  the sizes of those last dims; weight and bias have this shape. Beside an
    input in half precision they may be float32
    """
    shape = _last_dims("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    if len(shape) == 1:
        return _layer_norm(input, weight, bias, eps)
    out = _layer_norm(*_as_one_dim(shape, input, weight, bias), eps)
    return reshape(out, tuple(input.array.shape))


@op
def _rms_norm(xp, x, weight=None, *, eps=1e-6):
    """out = x * inv_rms * weight,  inv_rms = 1 / sqrt(mean of x^2 over the last axis + eps)"""
    wide = widened(x)
    inv_rms = 1 / xp.sqrt((wide * wide).mean(axis=-1, keepdims=True) + eps)
    out = wide * inv_rms
    out = out if weight is None else out * weight
    return narrowed(out, x.dtype), Saved(inv_rms=inv_rms)


@_rms_norm.rule("x", "weight")
def _(xp, g, x, weight, inv_rms):
    x_hat, g = widened(x) * inv_rms, widened(g)
    g_hat = g if weight is None else g * weight
    dx = inv_rms * (g_hat - x_hat * (g_hat * x_hat).mean(axis=-1, keepdims=True))
    d_weight = unbroadcast(g * x_hat, g.shape[-1:])
    dtype = x.dtype if weight is None else weight.dtype
    return narrowed(dx, x.dtype), narrowed(d_weight, dtype)


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """x / sqrt(mean of x^2 + eps) * weight over the last dims (Zhang & Sennrich 2019)."""
    shape = _last_dims("rms_norm", input, normalized_shape, weight=weight)
    eps = rms_eps(input, eps)
    if len(shape) == 1:
        return _rms_norm(input, weight, eps)
    return reshape(_rms_norm(*_as_one_dim(shape, input, weight), eps), tuple(input.array.shape))


def rms_eps(input, eps):
    """The eps that is meant by None: of the dtype that the statistics are in."""
    if eps is not None:
        return eps
    return float(np.finfo(np.float64 if input.array.dtype == np.float64 else np.float32).eps)


def _last_dims(name, input, shape, **parameters):
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    own = input.array.shape
    if input.array.dtype.kind not in "fV":
        raise DtypeError(f"{name}: input is {input.array.dtype}, floats are needed: input.float()")
    if not shape or own[-len(shape) :] != shape:
        raise ShapeError(f"{name}: input {tuple(own)} does not end in normalized_shape {shape}")
    if input.array.dtype.itemsize == 2 and any(
        p is not None and p.array.dtype == np.float32 for p in parameters.values()
    ):
        one_dtype(name, **parameters)  # statistics are float32 anyway
    else:
        one_dtype(name, input=input, **parameters)
    for which, p in parameters.items():
        if p is not None and p.array.shape != shape:
            raise ShapeError(
                f"{name}: {which} {tuple(p.array.shape)} must have normalized_shape {shape}"
            )
    return shape


def _as_one_dim(shape, input, *parameters):
    n = math.prod(shape)
    lead = tuple(input.array.shape[: input.array.ndim - len(shape)])
    return [reshape(input, (*lead, n)), *(p if p is None else reshape(p, n) for p in parameters)]


# ------------------------------------------------------------------------------ dropout


@op
def _dropout(xp, x, *, p, key):
    """out = x / (1 - p) where a random number is at least p, else 0"""
    return x * random.keep_mask(xp, key, x.shape, p, x.dtype)


@_dropout.rule("x")
def _(xp, g, p, key):  # the mask is drawn again from its key: the tape keeps nothing
    return _dropout.on(xp, g, p=p, key=key)


def dropout(input, p=0.5, training=True):
    """Zero each element with probability p, scale the others by 1/(1-p) (Srivastava 2014)."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p must be between 0 and 1, got {p}")
    if not training or p == 0:
        return input
    if input.array.dtype.kind not in "fV":
        raise DtypeError(f"dropout: input is {input.array.dtype}, what is scaled must be floats")
    return _dropout(input, p, random.default_generator.reserve(input.array.size))


# ------------------------------------------------------------------------------ attention


@op
def _attention(
    xp, query, key, value, mask=None, *, is_causal=False, scale=1.0, dropout_p=0.0, rng=None
):
    """out = P @ value,  P = softmax(query @ key^T * scale + mask)  (Vaswani et al. 2017, eq. 1)"""
    P = _probabilities(xp, query, key, mask, is_causal, scale)
    if dropout_p:
        P = _dropout.on(xp, P, p=dropout_p, key=rng)
    return P @ value


def _probabilities(xp, query, key, mask, is_causal, scale):
    """softmax(query @ key^T * scale + mask), (..., L, S); 0 where a query does not see a key"""
    scores = widened((query * scale) @ xp.swapaxes(key, -1, -2))
    if is_causal:
        visible = tril.on(xp, xp.ones_like(scores)) > 0
        scores = xp.where(visible, scores, -math.inf)
    if mask is not None:
        scores = xp.where(mask, scores, -math.inf) if mask.dtype.kind == "b" else scores + mask
    return narrowed(_softmax.on(xp, scores, dim=scores.ndim - 1), query.dtype)


@_attention.rule("query", "key", "value", "mask")
def _(xp, g, query, key, value, mask, is_causal, scale, dropout_p, rng, needs):
    P = _probabilities(xp, query, key, mask, is_causal, scale)  # again: keeping it costs more
    dropped, dP = P, g @ xp.swapaxes(value, -1, -2)
    if dropout_p:
        dropped = _dropout.on(xp, P, p=dropout_p, key=rng)
        dP = _dropout.on(xp, dP, p=dropout_p, key=rng)
    dS = narrowed(softmax_gradient(widened(P), widened(dP), -1), P.dtype)
    return (
        unbroadcast(dS @ key * scale, query.shape),
        unbroadcast(xp.swapaxes(dS, -1, -2) @ query * scale, key.shape),
        unbroadcast(xp.swapaxes(dropped, -1, -2) @ g, value.shape),
        unbroadcast(dS, mask.shape) if needs[3] else None,
    )


def _for_heads_of(query, x):
    """x's heads (dim -3), each repeated until there are as many as query's."""
    from .arrange import repeat_interleave

    shapes = tuple(query.array.shape), tuple(x.array.shape)
    heads, given = (s[-3] if len(s) > 2 else 0 for s in shapes)
    if not given or heads % given:
        raise ShapeError(
            f"scaled_dot_product_attention: enable_gqa: heads (dim -3) of query {shapes[0]} must "
            f"be a multiple of those of key and value {shapes[1]}"
        )
    return x if heads == given else repeat_interleave(x, heads // given, -3)


def scaled_dot_product_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    """softmax(query @ key^T / sqrt(E) + mask) @ value over (..., L, E), (..., S, E), (..., S, V).

    attn_mask  (..., L, S): True where a key may be seen, or floats added to the scores
    is_causal  position i sees positions j <= i
    enable_gqa each head of key and value (dim -3) serves several of query (Ainslie et al. 2023)
    """
    if enable_gqa:
        key, value = (_for_heads_of(query, t) for t in (key, value))
    if is_causal and attn_mask is not None:
        raise ArgumentError("scaled_dot_product_attention: pass attn_mask or is_causal, not both")
    one_dtype("scaled_dot_product_attention", query=query, key=key, value=value)
    q, k, v = (tuple(a.array.shape) for a in (query, key, value))
    if min(len(q), len(k), len(v)) < 2 or q[-1] != k[-1] or k[-2] != v[-2]:
        raise ShapeError(
            f"scaled_dot_product_attention: query {q}, key {k} and value {v}: the last axes of "
            "query and key must be equal, and key and value must be as many"
        )
    scale = 1 / math.sqrt(q[-1]) if scale is None else scale
    rng = None
    if dropout_p:
        lead = np.broadcast_shapes(q[:-2], k[:-2], v[:-2])
        rng = random.default_generator.reserve(math.prod(lead) * q[-2] * k[-2])
    return _attention(query, key, value, attn_mask, is_causal, scale, dropout_p, rng)
