"""Diagonals: matrices made of them, their sum, and products laid out in blocks."""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError
from . import shape as sh
from .pad import pad
from .pieces import atleast_2d
from .reduce import sum
from .shape import canonical, cat, reshape


def diag_embed(x, offset=0, dim1=-2, dim2=-1):
    """Zeros but for the last dim of x on the diagonal of the new dims dim1 and dim2"""
    n, ndim = x.array.shape[-1] + abs(offset), x.array.ndim + 1
    a, b = canonical(dim1, ndim), canonical(dim2, ndim)
    if a == b:
        raise ShapeError(f"diag_embed: dim1 {dim1} and dim2 {dim2} must differ")
    shape = list(x.array.shape[:-1])
    for d in sorted((a, b)):
        shape.insert(d, n)
    return sh._diagonal_scatter(x, shape=tuple(shape), offset=offset, dim1=a, dim2=b)


def diag(x, diagonal=0):
    """The matrix with the vector x on a diagonal; of a matrix x that diagonal"""
    if x.array.ndim not in (1, 2):
        raise ShapeError(f"diag: x {tuple(x.array.shape)} must be a vector or a matrix")
    if x.array.ndim == 1:
        return diag_embed(x, diagonal)
    return sh.diagonal(x, diagonal).clone()


def diagflat(x, offset=0):
    """The matrix with the elements of x on a diagonal"""
    return diag_embed(reshape(x, -1), offset)


def trace(x):
    """The sum of the diagonal of a matrix"""
    if x.array.ndim != 2:
        raise ShapeError(f"trace: x {tuple(x.array.shape)} must be a matrix")
    return sum(sh.diagonal(x))


def block_diag(*tensors):
    """The matrices along the diagonal of one, zeros elsewhere; vectors are rows"""
    blocks = [atleast_2d(t) for t in tensors]
    for t in blocks:
        if t.array.ndim > 2:
            raise ShapeError(f"block_diag: {tuple(t.array.shape)} has more than 2 dims")
    edges = np.cumsum([0, *(b.array.shape[1] for b in blocks)])
    parts = zip(sh._common(blocks), edges, edges[1:])
    return cat([pad(block, (left, edges[-1] - right)) for block, left, right in parts], 0)


def kron(x, y):
    """The Kronecker product: x with each element replaced by itself times y"""
    ndim = max(x.array.ndim, y.array.ndim)
    a = (1,) * (ndim - x.array.ndim) + tuple(x.array.shape)
    b = (1,) * (ndim - y.array.ndim) + tuple(y.array.shape)
    x = reshape(x, tuple(n for m in a for n in (m, 1)))
    y = reshape(y, tuple(n for m in b for n in (1, m)))
    return reshape(x * y, tuple(n * m for n, m in zip(a, b)))
