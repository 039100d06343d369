"""Functions of PyTorch's torch.linalg: `tt.linalg.solve(a, b)`. Their definitions are in ops/."""

from .arguments import guard_all as _guard_all
from .ops.length import linalg_norm as norm
from .ops.length import matrix_norm, vector_norm
from .ops.linalg import matmul
from .ops.products import linalg_cross as cross
from .ops.products import matrix_power, multi_dot, vecdot
from .ops.shape import diagonal as _diagonal
from .ops.solve import det, inv, slogdet, solve
from .ops.svd import svd, svdvals

__all__ = [
    "cross", "det", "diagonal", "inv", "matmul", "matrix_norm", "matrix_power", "multi_dot", "norm",
    "slogdet", "solve", "svd", "svdvals", "vecdot", "vector_norm",
]  # fmt: skip


def diagonal(x, *, offset=0, dim1=-2, dim2=-1):
    """out[..., i] = x[..., i, i + offset], over the last two dims"""
    return _diagonal(x, offset, dim1, dim2)


globals().update(_guard_all(globals()))
