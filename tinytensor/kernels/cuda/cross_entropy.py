"""Cross-entropy of rows of logits, alone and at the end of a language model: cross_entropy.cu.

At the end of a model the logits are the largest array of all, (rows, V): they are made for a chunk
of rows at a time, in the dtype of x, and turned into their gradient where they lie. That happens in
the forward, with the products for dx and dW behind it, so each logit is made once, read once from
memory and written twice. backward scales by g and by the number of rows that count; both stay on
the device. Beside an x in half precision the parameters may be float32; dW is summed in it anyway.

A target that is no class cannot be an error without waiting for the GPU: its loss is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...op import Saved
from ...ops import cross_entropy, fused
from ...ops.linalg import as_rows
from .gemm import gemm
from .launch import STORAGE, kernel
from .products import _beside

ROOM = 2**30  # bytes of logits for a chunk
SCALE = {"float16": 64.0}  # of d_logits: of 50,000 classes most are below its normal numbers
# Tensor cores are fed 16 bytes of a row at a time, which GPT-2's 50,257 logits are no multiple of:
# so there are a few classes more, of zeros, which no kernel looks at and no gradient reaches
EVEN = 8
SHORT = 1024  # classes: up to here a row is a warp's

_one = cross_entropy._cross_entropy.op
_whole = fused._linear_cross_entropy.op


def _ours(x: Any, *parameters: Any) -> bool:
    """x of a dtype that kernels store, parameters of the same or of float32, and none empty"""
    return x.dtype.name in STORAGE and x.size > 0 and all(
        p is None or (p.dtype in (x.dtype, np.float32) and p.size) for p in parameters
    )  # fmt: skip


def _launch(name: str, rows: int, classes: int, *args: Any) -> None:
    """A team per row: a warp, or for more classes a block, of more threads for many more."""
    if classes <= SHORT:
        kernel("cross_entropy", f"{name}_by_warp")((-(-rows // 8),), (256,), *args)
    else:
        threads = 256 if classes < 8192 else 1024
        kernel("cross_entropy", f"{name}_by_block")((rows,), (threads,), *args)


def _losses(
    losses: Any, lse: Any, logits: Any, target: Any, ignore_index: int, g: float | None,
    classes: int | None = None,
) -> None:  # fmt: skip
    """losses and lse (n,) of logits (n, V), whose place d_logits take if there is a g. Of each row
    the first `classes` count, the others are left alone"""
    n, step = logits.shape
    classes = step if classes is None else classes
    name, more = ("cross_entropy", ()) if g is None else ("cross_entropy_in_place", (g,))
    _launch(name, n, classes, losses, lse, logits, target, *more, n, classes, step, ignore_index)


def _as_targets(xp: Any, target: Any) -> Any:
    return xp.ascontiguousarray(target.reshape(-1).astype(np.int64, copy=False))


@cross_entropy._cross_entropy.kernel("cuda")
def _(xp: Any, logits: Any, *, target: Any, ignore_index: int) -> Any:
    if not _ours(logits):
        return _one.forward(xp, logits, target=target, ignore_index=ignore_index)
    losses, lse = xp.empty((2, len(logits)), np.float32)
    rows, target = xp.ascontiguousarray(logits), _as_targets(xp, target)
    _losses(losses, lse, rows, target, ignore_index, None)
    return losses, Saved(lse=lse[:, None])


@cross_entropy._cross_entropy.kernel("cuda", "logits")
def _(xp: Any, g: Any, logits: Any, target: Any, ignore_index: int, lse: Any) -> Any:
    if not _ours(logits):
        return _one.rules["logits"].function(xp, g, logits, target, ignore_index, lse)
    n, classes = logits.shape
    d_logits, target = xp.empty((n, classes), logits.dtype), _as_targets(xp, target)
    _launch(
        "cross_entropy_backward", n, classes, d_logits,
        xp.ascontiguousarray(g.astype(np.float32, copy=False)), xp.ascontiguousarray(logits),
        target, xp.ascontiguousarray(lse[:, 0]), n, classes, ignore_index,
    )  # fmt: skip
    return d_logits


# ------------------------------------------------------------------------------ linear, then loss


def _padded(xp: Any, x: Any, parameter: Any, step: int) -> Any:
    """The parameter in x's dtype, with rows of zeros up to `step`."""
    if parameter is None or len(parameter) == step:
        return _beside(xp, x, parameter)
    out = xp.empty((step, *parameter.shape[1:]), x.dtype)
    out[: len(parameter)] = parameter
    out[len(parameter) :] = 0
    return out


def _by_chunks(
    xp: Any, x: Any, weight: Any, bias: Any, target: Any, ignore_index: int, ahead: bool
) -> tuple[Any, Any, list]:
    """Losses and lse (n,); and, ahead, the gradients of x, weight and bias for SCALE times the sum
    of the losses, those of the parameters in float32."""
    rows, target = as_rows(x), _as_targets(xp, target)
    n, classes = len(rows), len(weight)
    step = -(-classes // EVEN) * EVEN
    weight, bias = (_padded(xp, x, p, step) for p in (weight, bias))
    losses, lse = xp.empty((2, n), np.float32)
    dx = dw = db = g = None
    if ahead:
        g = SCALE.get(x.dtype.name, 1.0)
        dx, dw = xp.empty(x.shape, x.dtype), xp.empty(weight.shape, np.float32)
        db = None if bias is None else xp.zeros(bias.shape, np.float32)
    chunks = -(-n * step * x.itemsize // ROOM)
    size = -(-n // chunks)  # of each
    room = xp.empty((size, step), x.dtype)
    for start in range(0, n, size):
        s = slice(start, start + size)
        logits = room[: len(rows[s])]
        gemm(rows[s], weight.T, logits, bias=bias)
        _losses(losses[s], lse[s], logits, target[s], ignore_index, g, classes)
        if ahead:
            gemm(logits, weight, as_rows(dx)[s])
            sums = None if db is None else xp.empty(db.shape, np.float32)
            gemm(logits.T, rows[s], dw, beta=float(start > 0), sum_a=sums)
            if db is not None:
                db += sums
    dw, db = (d if d is None else d[:classes] for d in (dw, db))
    return losses, lse, [dx, dw, db]


@fused._linear_cross_entropy.kernel("cuda")
def _(
    xp: Any, x: Any, weight: Any, bias: Any = None,
    *, target: Any, ignore_index: int, divisor: Any, ahead: bool,
) -> Any:  # fmt: skip
    if not _ours(x, weight, bias):
        return _whole.forward(
            xp, x, weight, bias,
            target=target, ignore_index=ignore_index, divisor=_in(divisor, x), ahead=ahead,
        )  # fmt: skip
    losses, lse, gradients = _by_chunks(xp, x, weight, bias, target, ignore_index, ahead)
    out = xp.empty((), np.float32)
    divisor = _as_divisor(xp, divisor)
    threads = min(1024, -(-losses.size // 32) * 32)
    kernel("cross_entropy", "mean_loss")((1,), (threads,), out, losses, divisor, losses.size)
    made = [gradients] if ahead else []
    return out, Saved(lse=lse[:, None], made=made)


@fused._linear_cross_entropy.kernel("cuda", "x", "weight", "bias")
def _(
    xp: Any, g: Any, x: Any, weight: Any, bias: Any, target: Any, ignore_index: int, divisor: Any,
    lse: Any, made: Any,
) -> Any:  # fmt: skip
    if not _ours(x, weight, bias):
        return _whole.rules["x"].function(
            xp, g, x, weight, bias, target, ignore_index, _in(divisor, x), lse
        )
    if made:
        gradients = made.pop()  # ours now, to write into: a second backward makes them again
    else:
        gradients = _by_chunks(xp, x, weight, bias, target, ignore_index, True)[2]
    g, divisor = g.astype(np.float32, copy=False), _as_divisor(xp, divisor)
    for d in gradients:
        if d is not None:
            blocks = -(-d.size * d.itemsize // (16 * 256))
            kernel("cross_entropy", "scale_gradient")(
                (blocks,), (256,), d, g, divisor, SCALE.get(x.dtype.name, 1.0), d.size
            )
    dx, dw, db = gradients
    return dx, dw.astype(weight.dtype, copy=False), db if db is None else db.astype(bias.dtype)


def _as_divisor(xp: Any, divisor: Any) -> Any:
    """An int64 on the device; None for 1"""
    if isinstance(divisor, int):
        return None if divisor == 1 else xp.full((), divisor, np.int64)
    return divisor


def _in(divisor: Any, x: Any) -> Any:
    """Of a dtype that does not widen x's"""
    return divisor if isinstance(divisor, int) else divisor.astype(np.promote_types(x.dtype, "f4"))
