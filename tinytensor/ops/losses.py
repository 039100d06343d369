"""Losses: how far input is from target, per element, averaged or summed.

`reduction` is 'none', 'mean' or 'sum' everywhere.
"""

from __future__ import annotations

import math

from ..autograd import Variable
from ..backend import ndarray, on_its_device
from ..errors import ArgumentError, DtypeError, ShapeError
from ..op import op
from .activations import logsigmoid, relu, softplus
from .elementwise import add, clamp, div, eq, exp, log, minimum, mul, neg, sqrt, sub, where
from .elementwise import pow as power
from .length import pairwise_distance
from .reduce import mean, sum
from .transcendental import xlogy

REDUCTIONS = ("none", "mean", "sum")


def reduce_loss(name, loss, reduction):
    """A loss per element as 'none', their 'mean' or their 'sum'."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"{name}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    return loss if reduction == "none" else mean(loss) if reduction == "mean" else sum(loss)


def check_losses(name, input, target, reduction):
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"{name}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    for which, a in (("input", input), ("target", target)):
        if not isinstance(a, Variable):
            raise ArgumentError(f"{name}: {which} must be a Tensor, got {type(a).__name__}")


# ------------------------------------------------------------------------------ of differences


@op(promote="same")
def _squared_error(xp, x, y):
    """out = (x - y)^2"""
    return (x - y) ** 2


_squared_error.rule("x", lambda g, x, y: g * (2 * (x - y)))
_squared_error.rule("y", lambda g, x, y: g * (2 * (y - x)))


def mse_loss(input, target, reduction="mean"):
    """(input - target)^2, averaged, summed or per element"""
    check_losses("mse_loss", input, target, reduction)
    return reduce_loss("mse_loss", _squared_error(input, target), reduction)


@op(promote="same")
def _absolute_error(xp, x, y):
    """out = |x - y|"""
    return xp.abs(x - y)


_absolute_error.rule("x", lambda xp, g, x, y: g * xp.sign(x - y))
_absolute_error.rule("y", lambda xp, g, x, y: g * xp.sign(y - x))


def l1_loss(input, target, reduction="mean"):
    """|input - target|"""
    check_losses("l1_loss", input, target, reduction)
    return reduce_loss("l1_loss", _absolute_error(input, target), reduction)


@op(promote="same")
def _huber(xp, x, y, *, delta):
    """out = d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), for d = x - y"""
    d = xp.abs(x - y)
    return xp.where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta))


_huber.rule("x", lambda xp, g, x, y, delta: g * clamp.on(xp, x - y, -delta, delta))
_huber.rule("y", lambda xp, g, x, y, delta: g * clamp.on(xp, y - x, -delta, delta))


def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """d^2 / 2 for |d| <= delta, else delta (|d| - delta / 2); d = input - target (Huber 1964)"""
    check_losses("huber_loss", input, target, reduction)
    if delta <= 0:
        raise ShapeError(f"huber_loss: delta must be positive, got {delta}")
    loss = _huber(input, target, delta)
    return reduce_loss("huber_loss", loss if weight is None else mul(loss, weight), reduction)


def smooth_l1_loss(input, target, reduction="mean", beta=1.0):
    """huber_loss with delta = beta, divided by beta; l1_loss for beta = 0 (Girshick 2015)"""
    check_losses("smooth_l1_loss", input, target, reduction)
    if beta < 0:
        raise ShapeError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction)
    return reduce_loss("smooth_l1_loss", div(_huber(input, target, beta), beta), reduction)


# ------------------------------------------------------------------------------ of distributions


def kl_div(input, target, reduction="mean", *, log_target=False):
    """target (ln target - input), for log-probabilities input: how far input is from target

    log_target: target holds logarithms, too. reduction='batchmean' is the Kullback-Leibler
    divergence, the sum divided by the batch (dim 0); 'mean' divides by all elements.
    """
    batchmean = reduction == "batchmean"
    check_losses("kl_div", input, target, "sum" if batchmean else reduction)
    for which, t in (("input", input), ("target", target)):
        if t.array.dtype.kind not in "fV":
            raise DtypeError(f"kl_div: {which} is {t.array.dtype}, log-probabilities are floats")
    if log_target:
        loss = mul(exp(target), sub(target, input))
    else:
        loss = sub(xlogy(target, target), mul(target, input))
    if batchmean:
        return div(sum(loss), input.array.shape[0] if input.array.ndim else 1)
    return reduce_loss("kl_div", loss, reduction)


def poisson_nll_loss(input, target, log_input=True, full=False, eps=1e-8, reduction="mean"):
    """e^input - target input: -ln of a Poisson distribution of mean e^input (or input), less what
    does not depend on input; full adds Stirling's approximation of that, ln target!"""
    check_losses("poisson_nll_loss", input, target, reduction)
    if log_input:
        loss = sub(exp(input), mul(target, input))
    else:
        loss = sub(input, mul(target, log(add(input, eps))))
    if full:
        t = where(target <= 1, 1.0, target)
        more = t * log(t) - t + 0.5 * log(t * (2 * math.pi))
        loss = add(loss, where(target <= 1, 0.0, more))
    return reduce_loss("poisson_nll_loss", loss, reduction)


@on_its_device
def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """(ln var + (input - target)^2 / var) / 2: -ln of a normal distribution of mean input, less
    ln(2 pi) / 2 unless full. var is a number, of input's shape, or one for the last dim"""
    check_losses("gaussian_nll_loss", input, target, reduction)
    if not isinstance(var, Variable):
        if var < 0:
            raise ArgumentError(f"gaussian_nll_loss: var must not be negative, got {var}")
        var = mul(input.detach(), 0) + var
    elif isinstance(var.array, ndarray) and (var.array < 0).any():  # a GPU would have to be asked
        raise ArgumentError("gaussian_nll_loss: var must not be negative")
    shape, given = tuple(input.array.shape), tuple(var.array.shape)
    if given == shape[:-1] and given != shape:
        var = var.unsqueeze(-1)
    elif given != shape and not (given[:-1] == shape[:-1] and given[-1:] == (1,)):
        raise ArgumentError(f"gaussian_nll_loss: var {given} does not fit input {shape}")
    if not isinstance(eps, (int, float)) or eps <= 0:
        raise ArgumentError(f"gaussian_nll_loss: eps must be positive, got {eps}")
    held = var + (clamp(var.detach(), eps) - var.detach())  # the gradient passes, as in PyTorch
    loss = 0.5 * (log(held) + power(sub(input, target), 2) / held)
    loss = loss + 0.5 * math.log(2 * math.pi) if full else loss
    return reduce_loss("gaussian_nll_loss", loss, reduction)


# ------------------------------------------------------------------------------ of margins


def margin_ranking_loss(input1, input2, target, margin=0.0, reduction="mean"):
    """max(0, -target (input1 - input2) + margin): target 1 where input1 should be the larger"""
    check_losses("margin_ranking_loss", input1, target, reduction)
    if not input1.array.ndim == input2.array.ndim == target.array.ndim:
        raise ShapeError("margin_ranking_loss: input1, input2 and target must have as many dims")
    return reduce_loss(
        "margin_ranking_loss", relu(add(mul(neg(target), sub(input1, input2)), margin)), reduction
    )


def hinge_embedding_loss(input, target, margin=1.0, reduction="mean"):
    """input where target is 1, max(0, margin - input) where it is -1"""
    check_losses("hinge_embedding_loss", input, target, reduction)
    far = where(eq(target, 1), 0.0, relu(sub(margin, input)))
    loss = add(far, where(eq(target, -1), 0.0, input))
    return reduce_loss("hinge_embedding_loss", loss, reduction)


def soft_margin_loss(input, target, reduction="mean"):
    """ln(1 + e^(-target input)), target 1 or -1"""
    check_losses("soft_margin_loss", input, target, reduction)
    loss = softplus(mul(neg(target), input), threshold=math.inf)
    return reduce_loss("soft_margin_loss", loss, reduction)


def cosine_embedding_loss(input1, input2, target, margin=0.0, reduction="mean"):
    """1 - cos of the angle between input1 and input2 where target is 1, max(0, cos - margin)
    where it is -1"""
    check_losses("cosine_embedding_loss", input1, target, reduction)
    if target.array.ndim + 1 != input1.array.ndim or input2.array.ndim != input1.array.ndim:
        raise ShapeError(
            f"cosine_embedding_loss: input1 {tuple(input1.array.shape)}, input2 "
            f"{tuple(input2.array.shape)} and target {tuple(target.array.shape)} must be (N, D), "
            "(N, D) and (N,), or (D,), (D,) and a number"
        )
    squares = [add(sum(mul(x, x), -1), 1e-12) for x in (input1, input2)]
    similar = div(sum(mul(input1, input2), -1), sqrt(mul(*squares)))
    loss = where(eq(target, 1), sub(1, similar), 0.0)
    loss = add(loss, where(eq(target, -1), relu(sub(similar, margin)), 0.0))
    return reduce_loss("cosine_embedding_loss", loss, reduction)


def triplet_margin_loss(
    anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False, reduction="mean"
):
    """max(0, |anchor - positive| - |anchor - negative| + margin)

    swap takes |positive - negative| instead of the last, where that is smaller.
    """
    check_losses("triplet_margin_loss", anchor, positive, reduction)
    if margin <= 0:
        raise ArgumentError(f"triplet_margin_loss: margin must be positive, got {margin}")
    if not anchor.array.ndim == positive.array.ndim == negative.array.ndim:
        raise ShapeError("triplet_margin_loss: the three inputs must have as many dims")
    near, far = (pairwise_distance(anchor, x, p, eps) for x in (positive, negative))
    if swap:
        far = minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduce_loss("triplet_margin_loss", relu(add(sub(near, far), margin)), reduction)


def multilabel_soft_margin_loss(input, target, weight=None, reduction="mean"):
    """-(t ln sigmoid(x) + (1 - t) ln sigmoid(-x)), averaged over the classes (the last dim)"""
    check_losses("multilabel_soft_margin_loss", input, target, reduction)
    loss = neg(add(mul(target, logsigmoid(input)), mul(sub(1, target), logsigmoid(neg(input)))))
    loss = loss if weight is None else mul(loss, weight)
    return reduce_loss("multilabel_soft_margin_loss", mean(loss, -1), reduction)
