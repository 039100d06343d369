"""Ops of neural networks: softmax, linear, layer_norm, losses, dropout, attention.

Each forward stands next to its backward; g is dL/dout.
"""

from __future__ import annotations

import math

import numpy as np

from .. import random
from ..autograd import Variable, unbroadcast
from ..errors import ArgumentError, DimError, DtypeError, ShapeError
from ..op import Saved, op
from .elementwise import where
from .index import gather
from .linalg import as_rows
from .reduce import mean, sum
from .shape import canonical, movedim, reshape, squeeze, tril, unsqueeze

# ------------------------------------------------------------------------------ softmax


@op
def _softmax(xp, x, *, dim):
    """out = e^x / sum of e^x over dim, shifted by the largest x so that nothing overflows"""
    if x.ndim == 0:
        return xp.ones_like(x)
    e = xp.exp(x - x.max(axis=dim, keepdims=True)) if x.size else x
    return e / e.sum(axis=dim, keepdims=True)


@_softmax.rule("x")
def _(xp, g, out, dim):  # the Jacobian is diag(out) - out out^T
    if g.ndim == 0:
        return g * 0
    return out * (g - (g * out).sum(axis=dim, keepdims=True))


@op
def _log_softmax(xp, x, *, dim):
    """out = x - ln(sum of e^x over dim)"""
    if x.ndim == 0:
        return xp.zeros_like(x)
    x = x - x.max(axis=dim, keepdims=True) if x.size else x
    return x - xp.log(xp.exp(x).sum(axis=dim, keepdims=True))


@_log_softmax.rule("x")
def _(xp, g, out, dim):
    if g.ndim == 0:
        return g * 0
    return g - xp.exp(out) * g.sum(axis=dim, keepdims=True)


def softmax(x, dim, *, dtype=None, axis=None):
    """out = e^x / sum of e^x over dim: non-negative, adding up to 1 along dim."""
    dim = dim if axis is None else axis
    return _softmax(x if dtype is None else x.to(dtype), canonical(dim, x.array.ndim))


def log_softmax(x, dim, *, dtype=None, axis=None):
    """out = ln softmax(x, dim), without forming the softmax."""
    dim = dim if axis is None else axis
    return _log_softmax(x if dtype is None else x.to(dtype), canonical(dim, x.array.ndim))


# ------------------------------------------------------------------------------ linear, norms


@op
def _linear(xp, x, weight, bias=None):
    """out = x @ weight^T + bias;  x (..., k), weight (m, k), bias (m,)"""
    out = (as_rows(x) @ xp.swapaxes(weight, 0, 1)).reshape((*x.shape[:-1], weight.shape[0]))
    return out if bias is None else out + bias


_linear.rule(
    "x",
    lambda g, weight: (as_rows(g) @ weight).reshape((*g.shape[:-1], weight.shape[1])),
)
_linear.rule("weight", lambda xp, g, x: xp.swapaxes(as_rows(g), 0, 1) @ as_rows(x))
_linear.rule("bias", lambda g: as_rows(g).sum(axis=0))


def linear(input, weight, bias=None):
    """out = input @ weight^T + bias;  input (..., in), weight (out, in), bias (out,)"""
    if weight.array.ndim == 1:
        out = squeeze(_linear(input, unsqueeze(weight, 0), None), -1)
        return out if bias is None else out + bias
    w, b = weight.array.shape, None if bias is None else bias.array.shape
    if input.array.ndim == 0 or input.array.shape[-1] != w[-1]:
        raise ShapeError(
            f"linear: input {tuple(input.array.shape)} and weight {tuple(w)}: the last axis of "
            f"input must be {w[-1]}, the last of weight"
        )
    if b is not None and b != (w[0],):
        raise ShapeError(f"linear: bias {tuple(b)} and weight {tuple(w)}: bias must be ({w[0]},)")
    for name, a in (("weight", weight), ("bias", bias)):
        if a is not None and a.array.dtype != input.array.dtype:
            raise DtypeError(
                f"linear: input is {input.array.dtype}, {name} is {a.array.dtype}: cast one"
            )
    return _linear(input, weight, bias)


@op
def _layer_norm(xp, x, weight=None, bias=None, *, eps=1e-5):
    """x_hat = (x - mean) * inv_std over the last axis;  out = x_hat * weight + bias"""
    mean = x.mean(axis=-1, keepdims=True)
    inv_std = 1 / xp.sqrt(((x - mean) ** 2).mean(axis=-1, keepdims=True) + eps)
    out = (x - mean) * inv_std
    if weight is not None:
        out = out * weight
    if bias is not None:
        out = out + bias
    return out, Saved(mean=mean, inv_std=inv_std)


@_layer_norm.rule("x", "weight", "bias")
def _(xp, g, x, weight, mean, inv_std):
    x_hat = (x - mean) * inv_std
    rows = tuple(range(g.ndim - 1))
    g_hat = g if weight is None else g * weight
    dx = inv_std * (
        g_hat
        - g_hat.mean(axis=-1, keepdims=True)
        - x_hat * (g_hat * x_hat).mean(axis=-1, keepdims=True)
    )
    return dx, (g * x_hat).sum(axis=rows), g.sum(axis=rows)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dims (Ba, Kiros, Hinton 2016).

    normalized_shape  the sizes of those last dims; weight and bias have this shape
    """
    shape = _last_dims("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    if len(shape) == 1:
        return _layer_norm(input, weight, bias, eps)
    out = _layer_norm(*_as_one_dim(shape, input, weight, bias), eps)
    return reshape(out, tuple(input.array.shape))


@op
def _rms_norm(xp, x, weight=None, *, eps=1e-6):
    """out = x * inv_rms * weight,  inv_rms = 1 / sqrt(mean of x^2 over the last axis + eps)"""
    inv_rms = 1 / xp.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    out = x * inv_rms
    return out if weight is None else out * weight, Saved(inv_rms=inv_rms)


@_rms_norm.rule("x", "weight")
def _(xp, g, x, weight, inv_rms):
    x_hat = x * inv_rms
    g_hat = g if weight is None else g * weight
    dx = inv_rms * (g_hat - x_hat * (g_hat * x_hat).mean(axis=-1, keepdims=True))
    return dx, (g * x_hat).sum(axis=tuple(range(g.ndim - 1)))


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """x / sqrt(mean of x^2 + eps) * weight over the last dims (Zhang & Sennrich 2019)."""
    shape = _last_dims("rms_norm", input, normalized_shape, weight=weight)
    eps = float(np.finfo(input.array.dtype).eps) if eps is None else eps
    if len(shape) == 1:
        return _rms_norm(input, weight, eps)
    return reshape(_rms_norm(*_as_one_dim(shape, input, weight), eps), tuple(input.array.shape))


def _last_dims(name, input, shape, **parameters):
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if not shape or tuple(input.array.shape[-len(shape) :]) != shape:
        raise ShapeError(
            f"{name}: input {tuple(input.array.shape)} does not end in normalized_shape {shape}"
        )
    for which, p in parameters.items():
        if p is not None and tuple(p.array.shape) != shape:
            raise ShapeError(
                f"{name}: {which} {tuple(p.array.shape)} must have normalized_shape {shape}"
            )
    return shape


def _as_one_dim(shape, input, *parameters):
    n = math.prod(shape)
    lead = tuple(input.array.shape[: input.array.ndim - len(shape)])
    return [reshape(input, (*lead, n)), *(p if p is None else reshape(p, n) for p in parameters)]


# ------------------------------------------------------------------------------ losses

REDUCTIONS = ("none", "mean", "sum")


def reduce_loss(name, loss, reduction):
    """A loss per element as 'none', their 'mean' or their 'sum'."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"{name}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    return loss if reduction == "none" else mean(loss) if reduction == "mean" else sum(loss)


@op
def _cross_entropy(xp, logits, *, target, ignore_index):
    """out = -ln softmax(logits)[target] per row, 0 where target is ignored;  logits (N, C)"""
    top = xp.amax(logits, axis=-1, keepdims=True)
    lse = xp.log(xp.exp(logits - top).sum(axis=-1, keepdims=True)) + top
    kept = target != ignore_index
    picked = xp.take_along_axis(logits, (target * kept)[:, None], -1)
    return (lse - picked)[:, 0] * kept, Saved(lse=lse)


@_cross_entropy.rule("logits")
def _(xp, g, logits, target, ignore_index, lse):  # g * (softmax - one_hot(target))
    kept = target != ignore_index
    g = g * kept
    return _sub_at.on(xp, xp.exp(logits - lse) * g[:, None], g, index=target * kept)


@op
def _sub_at(xp, x, y, *, index):
    """out = x, less y[i] at x[i, index[i]]"""
    out = x.copy()
    out[xp.arange(len(index)), index] -= y
    return out


_sub_at.rule("x", lambda g: g)
_sub_at.rule("y", lambda xp, g, index: -xp.take_along_axis(g, index[:, None], -1)[:, 0])


def cross_entropy(
    input, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0
):
    """-ln softmax(input)[target], averaged over the targets that are not ignore_index.

    input   (N, C), (C,) or (N, C, d1, ...): unnormalised logits
    target  class numbers, of input's shape without C; or probabilities, of input's shape
    weight  (C,): a factor per class;  label_smoothing mixes in the uniform distribution
    """
    _check_losses("cross_entropy", input, target, reduction)
    dim = 0 if input.array.ndim == 1 else 1
    if target.array.dtype.kind in "fV":
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing, dim)
    if weight is not None or label_smoothing:
        logs = _log_softmax(input, dim)
        hard = nll_loss(logs, target, weight, ignore_index=ignore_index, reduction=reduction)
        if not label_smoothing:
            return hard
        smooth = _smoothing(logs, target, weight, ignore_index, reduction, dim)
        return hard * (1 - label_smoothing) + smooth * (label_smoothing / input.array.shape[dim])
    _check_classes("cross_entropy", input, target, ignore_index, dim)
    rows = reshape(movedim(input, dim, -1), (-1, input.array.shape[dim]))
    loss = _cross_entropy(rows, target.array.reshape(-1), ignore_index)
    if reduction == "none":
        return reshape(loss, tuple(target.array.shape))
    kept = (target.array != ignore_index).sum() if reduction == "mean" else None
    return sum(loss) if kept is None else sum(loss) / kept.item()


def _check_losses(name, input, target, reduction):
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"{name}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    for which, a in (("input", input), ("target", target)):
        if not isinstance(a, Variable):
            raise ArgumentError(f"{name}: {which} must be a Tensor, got {type(a).__name__}")


def _check_classes(name, input, target, ignore_index, dim):
    shape, classes = tuple(input.array.shape), input.array.shape[dim]
    if tuple(target.array.shape) != shape[:dim] + shape[dim + 1 :]:
        raise ShapeError(
            f"{name}: input {shape} and target {tuple(target.array.shape)}: target must be "
            f"{shape[:dim] + shape[dim + 1 :]}, input without its {classes} classes"
        )
    if target.array.dtype.kind not in "iu":
        raise DtypeError(f"{name}: target must hold int64 class numbers, got {target.array.dtype}")
    if isinstance(target.array, np.ndarray):
        kept = target.array[target.array != ignore_index]
        if kept.size and not 0 <= kept.min() <= kept.max() < classes:
            bad = kept.min() if kept.min() < 0 else kept.max()
            raise DimError(f"{name}: target {bad} is out of bounds: classes are 0 to {classes - 1}")


def nll_loss(input, target, weight=None, *, ignore_index=-100, reduction="mean"):
    """-input[target] for log-probabilities input (N, C), (C,) or (N, C, d1, ...).

    'mean' divides by the sum of the weights of the targets that count.
    """
    _check_losses("nll_loss", input, target, reduction)
    dim = 0 if input.array.ndim == 1 else 1
    _check_classes("nll_loss", input, target, ignore_index, dim)
    kept = target != ignore_index
    index = target * kept
    factor = kept.to(input.dtype) if weight is None else where(kept, weight[index], 0.0)
    loss = -squeeze(gather(input, dim, unsqueeze(index, dim)), dim) * factor
    if reduction == "none":
        return loss
    return sum(loss) / sum(factor) if reduction == "mean" else sum(loss)


def _smoothing(logs, target, weight, ignore_index, reduction, dim):
    """The loss against the uniform distribution, times the number of classes."""
    kept = target != ignore_index
    shape = [-1 if d == dim else 1 for d in range(logs.array.ndim)]
    scaled = logs if weight is None else logs * reshape(weight, shape)
    loss = -sum(scaled, dim) * kept
    if reduction == "none":
        return loss
    if reduction == "sum":
        return sum(loss)
    index = target * kept
    total = sum(kept) if weight is None else sum(weight[index] * kept)
    return sum(loss) / total


def _soft_cross_entropy(input, target, weight, reduction, label_smoothing, dim):
    if input.array.shape != target.array.shape:
        raise ShapeError(
            f"cross_entropy: target probabilities {tuple(target.array.shape)} must have input's "
            f"shape {tuple(input.array.shape)}"
        )
    classes = input.array.shape[dim]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    terms = _log_softmax(input, dim) * target
    if weight is not None:
        shape = [-1 if d == dim else 1 for d in range(input.array.ndim)]
        terms = terms * reshape(weight, shape)
    loss = -sum(terms, dim)
    if reduction == "mean":
        return sum(loss) / max(loss.array.size, 1)
    return reduce_loss("cross_entropy", loss, reduction)


@op(promote="same")
def _squared_error(xp, x, y):
    """out = (x - y)^2"""
    return (x - y) ** 2


_squared_error.rule("x", lambda g, x, y: g * (2 * (x - y)))
_squared_error.rule("y", lambda g, x, y: g * (2 * (y - x)))


def mse_loss(input, target, reduction="mean"):
    """(input - target)^2, averaged, summed or per element"""
    _check_losses("mse_loss", input, target, reduction)
    return reduce_loss("mse_loss", _squared_error(input, target), reduction)


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
    return _dropout(input, p, random.default_generator.reserve(input.array.size))


# ------------------------------------------------------------------------------ attention


@op
def _attention(
    xp, query, key, value, mask=None, *, is_causal=False, scale=1.0, dropout_p=0.0, rng=None
):
    """out = softmax(query @ key^T * scale + mask) @ value  (Vaswani et al. 2017, eq. 1)"""
    scores = (query * scale) @ xp.swapaxes(key, -1, -2)  # (..., L, S)
    if is_causal:
        visible = tril.on(xp, xp.ones_like(scores)) > 0
        scores = xp.where(visible, scores, -math.inf)
    if mask is not None:
        scores = xp.where(mask, scores, -math.inf) if mask.dtype.kind == "b" else scores + mask
    probabilities = _softmax.on(xp, scores, dim=scores.ndim - 1)
    dropped = probabilities
    if dropout_p:
        dropped = _dropout.on(xp, probabilities, p=dropout_p, key=rng)
    return dropped @ value, Saved(probabilities=probabilities)


@_attention.rule("query", "key", "value", "mask")
def _(xp, g, query, key, value, mask, is_causal, scale, dropout_p, rng, probabilities, needs):
    P, dropped = probabilities, probabilities
    dP = g @ xp.swapaxes(value, -1, -2)
    if dropout_p:
        dropped = _dropout.on(xp, P, p=dropout_p, key=rng)
        dP = _dropout.on(xp, dP, p=dropout_p, key=rng)
    dS = P * (dP - (P * dP).sum(axis=-1, keepdims=True))
    return (
        unbroadcast(dS @ key * scale, query.shape),
        unbroadcast(xp.swapaxes(dS, -1, -2) @ query * scale, key.shape),
        unbroadcast(xp.swapaxes(dropped, -1, -2) @ g, value.shape),
        unbroadcast(dS, mask.shape) if needs[3] else None,
    )


def scaled_dot_product_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None
):
    """softmax(query @ key^T / sqrt(E) + mask) @ value over (..., L, E), (..., S, E), (..., S, V).

    attn_mask  (..., L, S): True where a key may be seen, or floats added to the scores
    is_causal  position i sees positions j <= i
    """
    if is_causal and attn_mask is not None:
        raise ArgumentError("scaled_dot_product_attention: pass attn_mask or is_causal, not both")
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
