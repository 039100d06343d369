"""The matrix product of attention in chunks. To be gemm's; until then CuPy's."""

from __future__ import annotations

from typing import Any


def gemm(a: Any, b: Any, out: Any = None, *, dtype: Any = None, beta: float = 0.0) -> Any:
    """out = a @ b + beta out, sums in float32; of `dtype`, a's if not given"""
    from ... import backend

    xp = backend.cupy()
    product = xp.matmul(a.astype("float32"), b.astype("float32"))
    if out is None:
        return product.astype(a.dtype if dtype is None else dtype)
    out[...] = product + beta * out if beta else product
    return out
