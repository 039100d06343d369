"""LayerNorm with the linear layer, or the MLP and the sums, around it: fewer visits to the rows.

The norm's weight w and bias c go into the layer behind it, y = x_hat W'^T + b':

    W' = W * w,                      b' = b + W c
    dW = dW' * w + db' c^T,  dw = column sums of dW' * W,  dc = W^T db',  dW' = dy^T x_hat
    dx = inv_std * (d - x_hat * mean(d * x_hat)),  d = dy W''

W'' is W' less the mean of each of its rows: then d has no mean that would be to subtract. This
visits W eight times more and the rows ten times less, so it is for rows that outnumber W's.
Forward, and backward down to dx, each thread goes through its own rows from end to end.

Of a few rows, tokens that are written, W is left as it is: only the time between ops is saved.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...op import Saved
from ...ops import fused, nn, norm_linear
from ...ops.linalg import as_rows
from ..blas import add_product
from ..products import cut_work, product_into, weight_gradient_into
from ..threads import one_blas_thread, parallel
from .activations import gelu_rows, gelu_slope_rows
from .blocks import in_pieces, plain
from .norm import layer_norm, standardize

FEW = norm_linear.FEW  # rows: below, weights are better left alone
_linear, _mlp = norm_linear._layer_norm_linear, norm_linear._layer_norm_mlp


class _Folded:
    """A linear layer behind a norm. Gradients of all parameters are its own, into `gradients`."""

    def __init__(self, weight: Any, bias: Any, norm_weight: Any, norm_bias: Any):
        self.weight, self.bias, self.norm_weight, self.norm_bias = (
            weight, bias, norm_weight, norm_bias
        )  # fmt: skip
        self.folded = weight * norm_weight

    def shift(self) -> Any:
        """b'"""
        if self.norm_bias is None:
            return self.bias
        with one_blas_thread():
            shift = self.weight @ self.norm_bias
        return shift if self.bias is None else shift + self.bias

    def centered(self) -> np.ndarray:
        """W''"""
        with one_blas_thread():
            mean = self.weight @ (self.norm_weight / len(self.norm_weight))
        self.folded -= mean[:, None]
        return self.folded

    def prepare(self, parts: int) -> None:
        self.d_weight, self.d_bias = np.empty_like(self.weight), np.empty_like(self.weight[:, 0])
        self.sums = np.empty((parts, self.weight.shape[1]), self.weight.dtype)

    def differentiate(self, part: tuple[int, slice], dy: np.ndarray, x_hat: np.ndarray) -> None:
        """dW[s] and db[s], and part i of dw;  part: i, s"""
        i, s = part
        dw, db = self.d_weight[s], self.d_bias[s]
        weight_gradient_into(dw, db, dy[:, s], x_hat)
        np.einsum("ij,ij->j", dw, self.weight[s], out=self.sums[i])
        dw *= self.norm_weight
        if self.norm_bias is not None:
            dw += db[:, None] * self.norm_bias

    def gradients(self) -> tuple:
        """dW, dw, dc and db"""
        with one_blas_thread():
            d_norm_bias = None if self.norm_bias is None else self.d_bias @ self.weight
        d_bias = None if self.bias is None else self.d_bias
        return self.d_weight, self.sums.sum(axis=0), d_norm_bias, d_bias


def _norm_slope_rows(d: Any, x_hat: Any, inv_std: Any) -> None:
    """d = inv_std * (d - x_hat * mean(d * x_hat)), in place, for d whose rows have no mean"""
    share = np.vecdot(d, x_hat)[:, None]
    share /= d.shape[1]
    d -= x_hat * share
    d *= inv_std


@_linear.kernel("cpu")
def _(
    xp: Any, x: Any, weight: Any, norm_weight: Any = None, norm_bias: Any = None, bias: Any = None,
    *, eps: float = 1e-5,
) -> Any:  # fmt: skip
    if norm_weight is None or not plain(x, weight, norm_weight, norm_bias, bias):
        return _linear.op.forward(xp, x, weight, norm_weight, norm_bias, bias, eps=eps)
    rows = as_rows(x)
    if len(rows) <= FEW:
        h, *_ = layer_norm(x, None, norm_weight, norm_bias, eps)
        return nn._linear.on(xp, h, weight, bias)
    layer = _Folded(weight, bias, norm_weight, norm_bias)
    x_hat, inv_std = np.empty_like(rows), np.empty((len(rows), 1), x.dtype)
    out, shift = np.empty((len(rows), len(weight)), x.dtype), layer.shift()

    def norm(x: Any, x_hat: Any, inv_std: Any) -> None:
        standardize(x, x_hat, inv_std, eps)

    def part(s: slice) -> None:
        in_pieces(norm, rows[s], x_hat[s], inv_std[s])
        product_into(out[s], x_hat[s], layer.folded.T, shift)

    with one_blas_thread():
        parallel(part, cut_work(len(rows), x.size * len(weight)))
    return out.reshape(*x.shape[:-1], len(weight)), Saved(x_hat=x_hat, inv_std=inv_std)


@_linear.kernel("cpu", "x", "weight", "norm_weight", "norm_bias", "bias")
def _(
    xp: Any, g: Any, x: Any, weight: Any, norm_weight: Any, norm_bias: Any, bias: Any, eps: float,
    x_hat: Any, inv_std: Any, needs: Any,
) -> Any:  # fmt: skip
    if x_hat is None:
        rule = _linear.op.rules["x"].function
        return rule(xp, g, x, weight, norm_weight, norm_bias, bias, eps)
    layer, dy = _Folded(weight, bias, norm_weight, norm_bias), np.ascontiguousarray(as_rows(g))
    dx, centered = np.empty_like(x_hat), layer.centered()
    work = x.size * len(weight)
    of_weights = list(enumerate(cut_work(len(weight), work)))
    layer.prepare(len(of_weights))

    def part(which: tuple | slice) -> None:
        if isinstance(which, tuple):
            layer.differentiate(which, dy, x_hat)
        else:
            np.matmul(dy[which], centered, out=dx[which])
            in_pieces(_norm_slope_rows, dx[which], x_hat[which], inv_std[which])

    with one_blas_thread():
        parallel(part, [*cut_work(len(dy), work), *of_weights])
    return dx.reshape(x.shape), *layer.gradients()


@_mlp.kernel("cpu")
def _(
    xp: Any, x: Any, residual: Any, fc: Any, proj: Any, norm_weight: Any = None,
    norm_bias: Any = None, fc_bias: Any = None, proj_bias: Any = None, *, eps: float = 1e-5,
) -> Any:  # fmt: skip
    given = (fc, proj, norm_weight, norm_bias, fc_bias, proj_bias)
    if norm_weight is None or not plain(x, residual, *given):
        return _mlp.op.forward(xp, x, residual, *given, eps=eps)
    rows, other = as_rows(x), as_rows(residual)
    if len(rows) <= FEW:
        h, total, *_ = layer_norm(x, residual, norm_weight, norm_bias, eps)
        out = fused._gelu_mlp.on(xp, h, fc, proj, fc_bias, proj_bias)
        out += total
        return out
    layer = _Folded(fc, fc_bias, norm_weight, norm_bias)
    x_hat, inv_std = np.empty_like(rows), np.empty((len(rows), 1), x.dtype)
    pre = np.empty((len(rows), len(fc)), x.dtype)
    hidden, out, shift = np.empty_like(pre), np.empty_like(rows), layer.shift()

    def norm(x: Any, residual: Any, total: Any, x_hat: Any, inv_std: Any) -> None:
        np.add(x, residual, total)
        standardize(total, x_hat, inv_std, eps)
        if proj_bias is not None:
            total += proj_bias

    def part(s: slice) -> None:
        in_pieces(norm, rows[s], other[s], out[s], x_hat[s], inv_std[s])
        product_into(pre[s], x_hat[s], layer.folded.T, shift)
        in_pieces(gelu_rows, pre[s], hidden[s])
        add_product(hidden[s], proj.T, out[s])

    with one_blas_thread():
        parallel(part, cut_work(len(rows), x.size * len(fc)))
    saved = Saved(x_hat=x_hat, inv_std=inv_std, pre=pre, hidden=hidden)
    return out.reshape(x.shape), saved


@_mlp.kernel("cpu", "x", "residual", "fc", "proj", "norm_weight", "norm_bias", "fc_bias",
             "proj_bias")  # fmt: skip
def _(
    xp: Any, g: Any, x: Any, residual: Any, fc: Any, proj: Any, norm_weight: Any, norm_bias: Any,
    fc_bias: Any, proj_bias: Any, eps: float, x_hat: Any, inv_std: Any, pre: Any, hidden: Any,
) -> Any:  # fmt: skip
    if x_hat is None:
        rule, weights = _mlp.op.rules["x"].function, (fc, proj, norm_weight, norm_bias)
        return rule(xp, g, x, residual, *weights, fc_bias, proj_bias, eps)
    layer, dy = _Folded(fc, fc_bias, norm_weight, norm_bias), np.ascontiguousarray(as_rows(g))
    dx, d_pre, centered = np.empty_like(x_hat), np.empty_like(pre), layer.centered()
    d_proj = np.empty_like(proj)
    d_proj_bias = None if proj_bias is None else np.empty_like(proj_bias)

    def by_rows(s: slice) -> None:
        d_hidden = dy[s] @ proj
        in_pieces(gelu_slope_rows, d_hidden, pre[s], hidden[s], d_pre[s])
        np.matmul(d_pre[s], centered, out=dx[s])
        in_pieces(_norm_slope_rows, dx[s], x_hat[s], inv_std[s])
        dx[s] += dy[s]

    def by_columns(which: tuple | slice) -> None:
        if isinstance(which, tuple):
            layer.differentiate(which, d_pre, x_hat)
            return
        db = None if d_proj_bias is None else d_proj_bias[which]
        weight_gradient_into(d_proj[which], db, dy[:, which], hidden)

    work = x.size * len(fc)
    of_fc = list(enumerate(cut_work(len(fc), work)))
    layer.prepare(len(of_fc))
    with one_blas_thread():
        parallel(by_rows, cut_work(len(dy), work))
        parallel(by_columns, [*of_fc, *cut_work(len(proj), work)])
    dx = dx.reshape(x.shape)
    d_fc, d_norm_weight, d_norm_bias, d_fc_bias = layer.gradients()
    return dx, dx, d_fc, d_proj, d_norm_weight, d_norm_bias, d_fc_bias, d_proj_bias
