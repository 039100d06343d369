"""Matrix products.

    out = x @ y:   dL/dx = g @ y^T,   dL/dy = x^T @ g        (batched over leading dims)
"""

from __future__ import annotations

import math

from ..autograd import Variable, unbroadcast
from ..errors import ArgumentError, ShapeError
from ..messages import one_dtype
from ..op import op
from .shape import squeeze, unsqueeze


def as_rows(x):
    """All leading dims as one: (..., k) -> (n, k)."""
    return x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def product(xp, x, y):
    """x @ y inside of an op: on CUDA gemm's, as CuPy copies, and knows no batches in bfloat16."""
    return _matmul.on(xp, x, y) if xp.__name__ == "cupy" else x @ y


@op
def _matmul(xp, x, y):  # at least 2-d each
    if y.ndim == 2 and x.ndim > 2:  # one large product instead of many small ones
        return (as_rows(x) @ y).reshape((*x.shape[:-1], y.shape[-1]))
    return x @ y


@_matmul.rule("x")
def _(xp, g, x_shape, y):
    return unbroadcast(_matmul.on(xp, g, xp.swapaxes(y, -1, -2)), x_shape)


@_matmul.rule("y")
def _(xp, g, x, y_shape):
    if len(y_shape) == 2 and g.ndim > 2:
        x, g = as_rows(x), as_rows(g)
    return unbroadcast(_matmul.on(xp, xp.swapaxes(x, -1, -2), g), y_shape)


def matmul(x, y):
    """out = x @ y: (..., n, k) @ (..., k, m) -> (..., n, m), leading dims broadcast.

    A vector on the left counts as a row, on the right as a column, which is dropped again.
    """
    for name, a in (("x", x), ("y", y)):
        if not isinstance(a, Variable):
            raise ArgumentError(f"matmul: {name} must be a Tensor, got {type(a).__name__}")
    if x.array.ndim == 0 or y.array.ndim == 0:
        raise ShapeError(
            f"matmul: x {tuple(x.array.shape)} and y {tuple(y.array.shape)}: both must have at "
            "least 1 dimension: use x * y for numbers"
        )
    inner = "the first of y" if y.array.ndim <= 2 else "the last but one of y"
    k = y.array.shape[0 if y.array.ndim == 1 else -2]
    if x.array.shape[-1] != k:
        raise ShapeError(
            f"matmul: x {tuple(x.array.shape)} and y {tuple(y.array.shape)}: "
            f"the last axis of x is {x.array.shape[-1]}, {inner} is {k}"
        )
    one_dtype("matmul", x=x, y=y)
    row, column = x.array.ndim == 1, y.array.ndim == 1
    out = _matmul(unsqueeze(x, 0) if row else x, unsqueeze(y, 1) if column else y)
    if column:
        out = squeeze(out, -1)
    return squeeze(out, -1 if column else -2) if row else out
