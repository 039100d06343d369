"""Softmax and log_softmax over the last dim: a warp a row, or a block where rows are long."""

from __future__ import annotations

from typing import Any

from ...ops import nn
from .launch import STORAGE, kernel

LONG = 2048  # numbers of a row: above, a block has it


def rows_kernel(entry: str, rows: int, n: int, *args: Any) -> None:
    """Run an entry of softmax.cu over `rows` rows of n numbers."""
    if n > LONG:
        kernel("softmax", entry, WHOLE_BLOCK=1)((rows,), (512,), *args)
    else:
        kernel("softmax", entry)((-(-rows // 4),), (128,), *args)


def _fits(x: Any, dim: int) -> bool:
    return x.dtype.name in STORAGE and x.ndim > 0 and dim == x.ndim - 1 and x.size > 0


def _over_rows(op: Any, name: str) -> None:
    """The kernels of a softmax: forward(out, x), and for x backward(dx, g, out)."""
    reference, rule = op.op.forward, op.op.rules["x"].function

    @op.kernel("cuda")
    def _(xp: Any, x: Any, *, dim: int) -> Any:
        if not _fits(x, dim):
            return reference(xp, x, dim=dim)
        x = xp.ascontiguousarray(x)
        out, n = xp.empty_like(x), x.shape[-1]
        rows_kernel(f"{name}_forward", x.size // n, n, out, x, x.size // n, n)
        return out

    @op.kernel("cuda", "x")
    def _(xp: Any, g: Any, out: Any, dim: int) -> Any:
        if not _fits(out, dim):
            return rule(xp, g, out, dim)
        g, out = xp.ascontiguousarray(g), xp.ascontiguousarray(out)
        dx, n = xp.empty_like(out), out.shape[-1]
        rows_kernel(f"{name}_backward", out.size // n, n, dx, g, out, out.size // n, n)
        return dx


_over_rows(nn._softmax, "softmax")
_over_rows(nn._log_softmax, "log_softmax")
