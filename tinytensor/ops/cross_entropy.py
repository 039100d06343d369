"""Cross entropies: -ln of the probability given to the target, of classes and of yes or no."""

from __future__ import annotations

import numpy as np

from ..autograd import mode
from ..backend import check_one_device
from ..errors import DimError, DtypeError, ShapeError
from ..messages import one_dtype
from ..op import Saved, op
from .activations import logsigmoid
from .elementwise import add, mul, narrowed, sub, where, widened
from .index import gather
from .losses import check_losses, reduce_loss
from .nn import _log_softmax
from .reduce import sum
from .shape import expand, movedim, reshape, squeeze, unsqueeze

# ------------------------------------------------------------------------------ of classes


@op
def _cross_entropy(xp, logits, *, target, ignore_index):
    """out = -ln softmax(logits)[target] per row, 0 where target is ignored;  logits (N, C)

    out is float32 also of half precision
    """
    logits = widened(logits)
    top = xp.amax(logits, axis=-1, keepdims=True)
    lse = xp.log(xp.exp(logits - top).sum(axis=-1, keepdims=True)) + top
    kept = target != ignore_index
    picked = xp.take_along_axis(logits, (target * kept)[:, None], -1)
    return (lse - picked)[:, 0] * xp.asarray(kept), Saved(lse=lse)


@_cross_entropy.rule("logits")
def _(xp, g, logits, target, ignore_index, lse):  # g * (softmax - one_hot(target))
    kept = target != ignore_index
    g = g * xp.asarray(kept)
    d_logits = _sub_at.on(xp, xp.exp(logits - lse) * g[:, None], g, index=target * kept)
    return narrowed(d_logits, logits.dtype)


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

    A class number that is none is an error on the CPU; on CUDA, where to see it is to wait for it,
    its loss is NaN.
    """
    check_losses("cross_entropy", input, target, reduction)
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
        loss = reshape(loss, tuple(target.array.shape))
    elif reduction == "mean":
        loss = sum(loss) / sum(target != ignore_index)
    else:
        loss = sum(loss)
    return as_input(loss, input)


def as_input(loss, input):
    """PyTorch's: the loss of a half input is half, but in autocast, where losses are float32"""
    return loss if mode.autocast is not None else loss.to(input.array.dtype)


def _check_classes(name, input, target, ignore_index, dim, weight=None):
    if input.array.ndim == 0:
        raise ShapeError(f"{name}: input () must be (C,), (N, C) or (N, C, ...)")
    check_one_device(name, input=input.array, target=target.array)
    shape, classes = tuple(input.array.shape), input.array.shape[dim]
    if tuple(target.array.shape) != shape[:dim] + shape[dim + 1 :]:
        raise ShapeError(
            f"{name}: input {shape} and target {tuple(target.array.shape)}: target must be "
            f"{shape[:dim] + shape[dim + 1 :]}, input without its {classes} classes"
        )
    if weight is not None and tuple(weight.array.shape) != (classes,):
        raise ShapeError(
            f"{name}: weight {tuple(weight.array.shape)} must be ({classes},), a number a class"
        )
    check_targets(name, target, ignore_index, classes)


def check_targets(name, target, ignore_index, classes):
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
    check_losses("nll_loss", input, target, reduction)
    dim = 0 if input.array.ndim == 1 else 1
    _check_classes("nll_loss", input, target, ignore_index, dim, weight)
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


# ------------------------------------------------------------------------------ of yes or no


@op(promote="same")
def _binary_cross_entropy(xp, x, target):
    """out = -(target ln x + (1 - target) ln(1 - x)), each logarithm at least -100"""
    yes, no = xp.maximum(xp.log(x), -100), xp.maximum(xp.log1p(-x), -100)
    return (target - 1) * no - target * yes


@_binary_cross_entropy.rule("x")
def _(xp, g, x, target):
    return g * (x - target) / xp.maximum((1 - x) * x, 1e-12)


@_binary_cross_entropy.rule("target")
def _(xp, g, x):
    return g * (xp.maximum(xp.log1p(-x), -100) - xp.maximum(xp.log(x), -100))


def binary_cross_entropy(input, target, weight=None, *, reduction="mean"):
    """-(target ln input + (1 - target) ln(1 - input)) for probabilities input; weight: a factor

    Logarithms are held at -100, so that a certain but wrong answer costs 100, not infinity.
    """
    check_losses("binary_cross_entropy", input, target, reduction)
    _equal_shapes("binary_cross_entropy", input, target)
    one_dtype("binary_cross_entropy", input=input, target=target)
    x = input.array
    if x.dtype.kind not in "fV" or (isinstance(x, np.ndarray) and ((x < 0) | (x > 1)).any()):
        raise ShapeError(
            "binary_cross_entropy: input must be probabilities, between 0 and 1: for logits use "
            "binary_cross_entropy_with_logits"
        )
    loss = _binary_cross_entropy(input, target)
    if weight is not None:
        loss = mul(loss, expand(weight, tuple(loss.array.shape)))
    return reduce_loss("binary_cross_entropy", loss, reduction)


def binary_cross_entropy_with_logits(
    input, target, weight=None, *, reduction="mean", pos_weight=None
):
    """binary_cross_entropy(sigmoid(input), target), without forming the sigmoid

    (1 - t) x - (1 + (p - 1) t) ln sigmoid(x); p = pos_weight is a factor for the yes
    """
    name = "binary_cross_entropy_with_logits"
    check_losses(name, input, target, reduction)
    _equal_shapes(name, input, target)
    one_dtype(name, input=input, target=target)
    factor = 1 if pos_weight is None else add(mul(sub(pos_weight, 1), target), 1)
    loss = sub(mul(sub(1, target), input), mul(factor, logsigmoid(input)))
    if weight is not None:
        loss = mul(loss, weight)
    return reduce_loss(name, loss, reduction)


def _equal_shapes(name, input, target):
    if input.array.shape != target.array.shape:
        raise ShapeError(
            f"{name}: target {tuple(target.array.shape)} must have input's shape "
            f"{tuple(input.array.shape)}"
        )
