"""Linear layers, matmul and the GELU MLP through gemm: biases, GELU, their gradients ride along.

Beside an x in half precision, weight and bias may be float32, the copies that an optimizer keeps:
they are cast here, once for forward and backward, and their gradients are float32 as they come out
of the product.
"""

from __future__ import annotations

from typing import Any

from ...op import Saved
from ...ops import fused, linalg, nn
from ...ops.elementwise import cast
from ...ops.linalg import as_rows
from .columns import column_sums
from .gemm import aux_like, gemm, multiplies

Array = Any

# Gradients of biases come with dW's product (BGRADB). Whether a visit of their own to g is faster,
# as llm.c found on the GPUs of its time, is for benchmarks to say.
SUMS_RIDE_ALONG = True

_linear, _matmul, _mlp = nn._linear, linalg._matmul, fused._gelu_mlp


def _beside(xp: Any, x: Array, parameter: Array) -> Array:
    """The parameter in x's dtype."""
    if parameter is None or parameter.dtype == x.dtype:
        return parameter
    return cast.on(xp, parameter, dtype=x.dtype)


def product(xp: Any, x: Array, w: Array, **options: Any) -> Array:
    """x (..., K) @ w (K, N), of x's dtype;  options as gemm's"""
    out = xp.empty((*x.shape[:-1], w.shape[1]), x.dtype)
    gemm(as_rows(x), w, as_rows(out), **options)
    return out


def weight_gradient(xp: Any, g: Array, x: Array, dtype: Any, bias: bool = False) -> tuple:
    """dW (m, k) and db (m,), or None, in dtype, of x (..., k) @ W^T + b;  g (..., m)"""
    rows, db = as_rows(g), None
    if bias and SUMS_RIDE_ALONG:
        db = xp.empty(rows.shape[1], dtype)
    dw = gemm(rows.T, as_rows(x), dtype=dtype, sum_a=db)
    if bias and db is None:
        db = bias_gradient(xp, rows, dtype)
    return dw, db


def bias_gradient(xp: Any, rows: Array, dtype: Any) -> Array:
    """db (m,) of rows (n, m), in a visit of its own"""
    if rows.size and rows.dtype != xp.float64:
        return column_sums(xp.ascontiguousarray(rows)).astype(dtype, copy=False)
    db = xp.empty((1, rows.shape[1]), dtype)
    gemm(xp.ones((1, len(rows)), rows.dtype), rows, db)
    return db[0]


# ------------------------------------------------------------------------------ linear


@_linear.kernel("cuda")
def _(xp: Any, x: Array, weight: Array, bias: Array = None) -> Any:
    if not multiplies(x):
        return _linear.op.forward(xp, x, weight, bias)
    taken = _beside(xp, x, weight)
    return product(xp, x, taken.T, bias=_beside(xp, x, bias)), Saved(taken=taken)


@_linear.kernel("cuda", "x")
def _(xp: Any, g: Array, weight: Array, taken: Array) -> Array:
    return product(xp, g, taken)


@_linear.kernel("cuda", "weight", "bias")
def _(xp: Any, g: Array, x: Array, weight_dtype: Any) -> tuple:
    return weight_gradient(xp, g, x, weight_dtype, bias=True)


@_linear.kernel("cuda", "weight")
def _(xp: Any, g: Array, x: Array, weight_dtype: Any) -> Array:
    return weight_gradient(xp, g, x, weight_dtype)[0]


@_linear.kernel("cuda", "bias")
def _(xp: Any, g: Array, bias_dtype: Any) -> Array:
    return bias_gradient(xp, as_rows(g), bias_dtype)


# ------------------------------------------------------------------------------ matmul


@_matmul.kernel("cuda")
def _(xp: Any, x: Array, y: Array) -> Array:  # its rules go through it as well
    return gemm(x, y) if multiplies(x) else _matmul.op.forward(xp, x, y)


# ------------------------------------------------------------------------------ the GELU MLP


@_mlp.kernel("cuda")
def _(
    xp: Any, x: Array, fc: Array, proj: Array, fc_bias: Array = None, proj_bias: Array = None
) -> Any:
    if not multiplies(x):
        return _mlp.op.forward(xp, x, fc, proj, fc_bias, proj_bias)
    taken = _beside(xp, x, fc), _beside(xp, x, proj)
    rows = as_rows(x)
    hidden = xp.empty((len(rows), len(fc)), x.dtype)
    pre = aux_like(xp, hidden)
    biases = _beside(xp, x, fc_bias), _beside(xp, x, proj_bias)
    gemm(rows, taken[0].T, hidden, bias=biases[0], activation="gelu", aux=pre)
    out = xp.empty((*x.shape[:-1], len(proj)), x.dtype)
    gemm(hidden, taken[1].T, as_rows(out), bias=biases[1])
    return out, Saved(pre=pre, hidden=hidden, taken=taken)


@_mlp.kernel("cuda", "x", "fc", "proj", "fc_bias", "proj_bias")
def _(
    xp: Any, g: Array, x: Array, fc: Array, proj: Array, fc_bias: Array, proj_bias: Array,
    pre: Array, hidden: Array, taken: Any, needs: tuple,
) -> tuple:  # fmt: skip
    rows = as_rows(g)
    d_proj, d_proj_bias = weight_gradient(xp, rows, hidden, proj.dtype, proj_bias is not None)
    d_pre = product(xp, rows, taken[1], activation="dgelu", aux=pre)
    d_fc, d_fc_bias = weight_gradient(xp, d_pre, x, fc.dtype, fc_bias is not None)
    dx = None
    if needs[0]:
        dx = xp.empty(x.shape, x.dtype)
        gemm(d_pre, taken[0], as_rows(dx))
    return dx, d_fc, d_proj, d_fc_bias, d_proj_bias
