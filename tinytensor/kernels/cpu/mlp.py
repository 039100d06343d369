"""Linear, GELU, linear in three phases of the threads instead of six.

Forward, and backward down to dx, each thread goes through its own rows from one end to the other;
only the gradients of the weights need the rows of all threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...op import Saved
from ...ops import fused
from ...ops.linalg import as_rows
from ..matvec import FEW
from ..products import TINY, cut_work, product, product_into, weight_gradient_into
from ..threads import one_blas_thread, parallel
from .activations import gelu_rows, gelu_slope_rows
from .blocks import in_pieces, plain

_mlp, _mlp_rule = fused._gelu_mlp.op.forward, fused._gelu_mlp.op.rules["x"].function


@fused._gelu_mlp.kernel("cpu")
def _(xp: Any, x: Any, fc: Any, proj: Any, fc_bias: Any = None, proj_bias: Any = None) -> Any:
    if not plain(x, fc, proj, fc_bias, proj_bias):
        return _mlp(xp, x, fc, proj, fc_bias, proj_bias)
    rows, work = as_rows(x), x.size * len(fc)
    hidden = np.empty((len(rows), len(fc)), x.dtype)
    if work < TINY or len(rows) <= FEW:
        pre = product(rows, fc.T, fc_bias)
        gelu_rows(pre, hidden)
        out = product(hidden, proj.T, proj_bias)
    else:
        pre, out = np.empty_like(hidden), np.empty((len(rows), len(proj)), x.dtype)

        def part(s: slice) -> None:
            product_into(pre[s], rows[s], fc.T, fc_bias)
            in_pieces(gelu_rows, pre[s], hidden[s])
            product_into(out[s], hidden[s], proj.T, proj_bias)

        with one_blas_thread():
            parallel(part, cut_work(len(rows), work))
    return out.reshape(*x.shape[:-1], len(proj)), Saved(pre=pre, hidden=hidden)


@fused._gelu_mlp.kernel("cpu", "x", "fc", "proj", "fc_bias", "proj_bias")
def _(
    xp: Any, g: Any, x: Any, fc: Any, proj: Any, fc_bias: Any, proj_bias: Any, pre: Any,
    hidden: Any, needs: Any,
) -> Any:  # fmt: skip
    if not plain(g, x, fc, proj):
        return _mlp_rule(xp, g, x, fc, proj, fc_bias, proj_bias, pre, hidden)
    needs_x, *of_weights = needs
    grad, rows, work = as_rows(g), as_rows(x), x.size * len(fc)
    d_pre, dx = np.empty_like(pre), np.empty_like(rows) if needs_x else None

    def by_rows(s: slice) -> None:
        d_hidden = grad[s] @ proj
        in_pieces(gelu_slope_rows, d_hidden, pre[s], hidden[s], d_pre[s])
        if dx is not None:
            np.matmul(d_pre[s], fc, out=dx[s])

    d_fc, d_proj, *biases = (
        np.empty_like(a) if need else None
        for a, need in zip((fc, proj, fc_bias, proj_bias), of_weights)
    )

    def by_columns(which: tuple) -> None:
        s, of_out, inputs, dw, db = which
        part_w, part_b = (None if d is None else d[s] for d in (dw, db))
        weight_gradient_into(part_w, part_b, of_out[:, s], inputs)

    sums = ((d_pre, rows, d_fc, biases[0]), (grad, hidden, d_proj, biases[1]))
    with one_blas_thread():
        parallel(by_rows, cut_work(len(rows), work))
        parallel(by_columns, [(s, *p) for p in sums for s in cut_work(p[0].shape[1], work)])
    return dx if dx is None else dx.reshape(x.shape), d_fc, d_proj, *biases
