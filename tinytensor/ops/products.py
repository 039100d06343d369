"""Products of vectors and matrices under their own names: dot, mm, bmm, outer, addmm, tensordot ...

All are matmul or a product with a sum; what they add is a check of the shapes.
"""

from __future__ import annotations

import math

from ..autograd import Variable
from ..errors import ArgumentError, DtypeError, ShapeError
from ..messages import one_dtype
from ..op import op
from .elementwise import add, mul
from .linalg import matmul
from .reduce import sum
from .shape import canonical, permute, reshape, squeeze, unsqueeze

# ------------------------------------------------------------------------------ of two


def _check(name, x, y, ndims):
    """x and y have these numbers of dims, and one dtype."""
    for which, a, ndim in (("x", x, ndims[0]), ("y", y, ndims[1])):
        if not isinstance(a, Variable):
            raise ArgumentError(f"{name}: {which} must be a Tensor, got {type(a).__name__}")
        if a.array.ndim != ndim:
            kind = ["a number", "a vector", "a matrix", "a batch of matrices (B, n, m)"][ndim]
            raise ShapeError(f"{name}: {which} {tuple(a.array.shape)} must be {kind}")
    one_dtype(name, x=x, y=y)


def _fit(name, x, y, i, j):
    """x's dim i and y's dim j are equal."""
    if x.array.shape[i] != y.array.shape[j]:
        raise ShapeError(
            f"{name}: x {tuple(x.array.shape)} and y {tuple(y.array.shape)}: dim {i} of x must "
            f"equal dim {j} of y"
        )


def dot(x, y):
    """out = sum of x[i] y[i], of two vectors"""
    _check("dot", x, y, (1, 1))
    _fit("dot", x, y, 0, 0)
    return matmul(x, y)


def vdot(x, y):
    """dot, of real vectors"""
    _check("vdot", x, y, (1, 1))
    _fit("vdot", x, y, 0, 0)
    return matmul(x, y)


def mv(x, y):
    """out[i] = sum of x[i, j] y[j]: a matrix times a vector"""
    _check("mv", x, y, (2, 1))
    _fit("mv", x, y, 1, 0)
    return matmul(x, y)


def mm(x, y):
    """out[i, k] = sum of x[i, j] y[j, k]: a matrix times a matrix"""
    _check("mm", x, y, (2, 2))
    _fit("mm", x, y, 1, 0)
    return matmul(x, y)


def bmm(x, y):
    """out[b] = x[b] @ y[b]: (B, n, k) times (B, k, m)"""
    _check("bmm", x, y, (3, 3))
    _fit("bmm", x, y, 0, 0)
    _fit("bmm", x, y, 2, 1)
    return matmul(x, y)


def outer(x, y):
    """out[i, j] = x[i] y[j], of two vectors"""
    for which, a in (("x", x), ("y", y)):
        if a.array.ndim != 1:
            raise ShapeError(f"outer: {which} {tuple(a.array.shape)} must be a vector")
    return mul(unsqueeze(x, 1), y)


ger = outer


def inner(x, y):
    """out[..., ...] = sum over the last dim of both; with a number, a product"""
    if x.array.ndim == 0 or y.array.ndim == 0:
        return mul(x, y)
    _fit("inner", x, y, x.array.ndim - 1, y.array.ndim - 1)
    return tensordot(x, y, dims=([-1], [-1]))


def vecdot(x, y, *, dim=-1):
    """out = sum of x y over dim, after broadcasting"""
    one_dtype("linalg.vecdot", x=x, y=y)
    return sum(mul(x, y), dim)


def cross(x, y, dim=None):
    """The cross product along dim, of size 3: the first such dim if None"""
    if dim is None:
        dim = next((d for d, n in enumerate(x.array.shape) if n == 3), None)
        if dim is None:
            raise ShapeError(f"cross: x {tuple(x.array.shape)} has no dim of size 3")
    return linalg_cross(x, y, dim=dim)


def linalg_cross(x, y, *, dim=-1):
    """out = (x1 y2 - x2 y1, x2 y0 - x0 y2, x0 y1 - x1 y0) along dim"""
    from .arrange import roll

    one_dtype("linalg.cross", x=x, y=y)
    if x.array.ndim != y.array.ndim:
        raise ShapeError(
            f"linalg.cross: x {tuple(x.array.shape)} and y {tuple(y.array.shape)} must have as "
            "many dims"
        )
    d = canonical(dim, x.array.ndim)
    if x.array.shape[d] != 3 or y.array.shape[d] != 3:
        raise ShapeError(
            f"linalg.cross: x {tuple(x.array.shape)} and y {tuple(y.array.shape)} must have size "
            f"3 along dim {dim}"
        )
    return mul(roll(x, -1, d), roll(y, -2, d)) - mul(roll(x, -2, d), roll(y, -1, d))


# ------------------------------------------------------------------------------ of several


def tensordot(x, y, dims=2):
    """out = sum over pairs of dims: the last n of x with the first n of y, or ([of x], [of y])"""
    if isinstance(dims, Variable):
        dims = dims.array.tolist()
    if isinstance(dims, int):
        if dims < 0 or dims > min(x.array.ndim, y.array.ndim):
            raise ShapeError(f"tensordot: dims must be 0 to {min(x.array.ndim, y.array.ndim)}")
        dims = (list(range(x.array.ndim - dims, x.array.ndim)), list(range(dims)))
    a, b = ([d] if isinstance(d, int) else list(d) for d in dims)
    a = [canonical(d, x.array.ndim) for d in a]
    b = [canonical(d, y.array.ndim) for d in b]
    for i, j in zip(a, b):  # 1 broadcasts
        n, m = x.array.shape[i], y.array.shape[j]
        x = sum(x, i, True, dtype=x.array.dtype) if m == 1 != n else x
        y = sum(y, j, True, dtype=y.array.dtype) if n == 1 != m else y
    if len(a) != len(b) or any(x.array.shape[i] != y.array.shape[j] for i, j in zip(a, b)):
        raise ShapeError(
            f"tensordot: x {tuple(x.array.shape)} over dims {a} and y {tuple(y.array.shape)} over "
            f"{b}: the sizes must be equal in pairs"
        )
    rows = [d for d in range(x.array.ndim) if d not in a]
    columns = [d for d in range(y.array.ndim) if d not in b]
    n = math.prod(x.array.shape[d] for d in a)
    kept = [x.array.shape[d] for d in rows], [y.array.shape[d] for d in columns]
    left = reshape(permute(x, (*rows, *a)), (math.prod(kept[0]), n))
    right = reshape(permute(y, (*b, *columns)), (n, math.prod(kept[1])))
    return reshape(matmul(left, right), (*kept[0], *kept[1]))


def chain_matmul(*matrices):
    """The product of the matrices in the order that costs least"""
    return multi_dot(matrices[0] if len(matrices) == 1 else matrices)


def multi_dot(tensors):
    """The product of the matrices (the ends may be vectors) in the order that costs least

    cost[i, j] = min over k of cost[i, k] + cost[k + 1, j] + n_i n_(k+1) n_(j+1) (dynamic
    programming: Cormen et al., Introduction to Algorithms, 15.2)
    """
    tensors = list(tensors)
    if len(tensors) < 2:
        raise ShapeError("linalg.multi_dot: pass at least 2 matrices")
    for i, x in enumerate(tensors):
        vector = i in (0, len(tensors) - 1) and x.array.ndim == 1
        if x.array.ndim != 2 and not vector:
            raise ShapeError(
                f"linalg.multi_dot: tensors[{i}] {tuple(x.array.shape)} must be a matrix"
            )
        if x.array.dtype != tensors[0].array.dtype:
            raise DtypeError("linalg.multi_dot: all matrices must have the same dtype")
    row, column = tensors[0].array.ndim == 1, tensors[-1].array.ndim == 1
    if row:
        tensors[0] = unsqueeze(tensors[0], 0)
    if column:
        tensors[-1] = unsqueeze(tensors[-1], 1)
    for x, y in zip(tensors, tensors[1:]):
        _fit("linalg.multi_dot", x, y, 1, 0)
    sizes = [x.array.shape[0] for x in tensors] + [tensors[-1].array.shape[1]]
    best = {(i, i): (0, i) for i in range(len(tensors))}
    for length in range(1, len(tensors)):
        for i in range(len(tensors) - length):
            j = i + length
            best[i, j] = min(
                (best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )

    def product(i, j):
        k = best[i, j][1]
        return tensors[i] if i == j else matmul(product(i, k), product(k + 1, j))

    out = product(0, len(tensors) - 1)
    out = squeeze(out, 1) if column else out
    return squeeze(out, 0) if row else out


@op
def _identity(xp, x):
    """out = the identity for each matrix of x"""
    return xp.broadcast_to(xp.eye(x.shape[-1], dtype=x.dtype), x.shape).copy()


_identity.rule("x", lambda g: g * 0)


def matrix_power(x, n):
    """x @ x @ ... @ x, n times, by repeated squaring; of the inverse for a negative n"""
    from .solve import inv

    if x.array.ndim < 2 or x.array.shape[-1] != x.array.shape[-2]:
        raise ShapeError(f"matrix_power: x {tuple(x.array.shape)} must be square matrices")
    if n < 0:
        x, n = inv(x), -n
    if n == 0:
        return _identity(x)
    out = None
    while n:
        if n % 2:
            out = x if out is None else matmul(out, x)
        n //= 2
        x = matmul(x, x) if n else x
    return out.clone() if out is x else out


# ------------------------------------------------------------------------------ and a sum


def _plus(name, x, product, beta, alpha):
    """beta x + alpha product; beta = 0 leaves out x, NaNs and all."""
    if x.array.dtype != product.array.dtype:
        raise DtypeError(f"{name}: x is {x.array.dtype}, the product {product.array.dtype}")
    shape = tuple(product.array.shape)
    if x.array.ndim > len(shape) or any(
        n not in (1, m) for n, m in zip(x.array.shape[::-1], shape[::-1])
    ):
        raise ShapeError(f"{name}: x {tuple(x.array.shape)} does not broadcast to {shape}")
    if x.array.dtype.kind in "biu":
        beta, alpha = (int(v) for v in (beta, alpha))  # as PyTorch takes them
    if x.array.dtype.kind == "b":
        beta, alpha = bool(beta), bool(alpha)
    scaled = product if alpha == 1 else mul(product, alpha)
    if beta == 0:
        return scaled
    return add(x if beta == 1 else mul(x, beta), scaled)


def addmm(x, mat1, mat2, *, beta=1, alpha=1):
    """out = beta x + alpha mat1 @ mat2"""
    return _plus("addmm", x, mm(mat1, mat2), beta, alpha)


def addmv(x, mat, vec, *, beta=1, alpha=1):
    """out = beta x + alpha mat @ vec"""
    return _plus("addmv", x, mv(mat, vec), beta, alpha)


def addr(x, vec1, vec2, *, beta=1, alpha=1):
    """out = beta x + alpha vec1 vec2^T"""
    return _plus("addr", x, outer(vec1, vec2), beta, alpha)


def baddbmm(x, batch1, batch2, *, beta=1, alpha=1):
    """out[b] = beta x[b] + alpha batch1[b] @ batch2[b]"""
    return _plus("baddbmm", x, bmm(batch1, batch2), beta, alpha)


def addbmm(x, batch1, batch2, *, beta=1, alpha=1):
    """out = beta x + alpha (sum over b of batch1[b] @ batch2[b]), which is one product:
    (n, B k) @ (B k, m)"""
    _check("addbmm", batch1, batch2, (3, 3))
    _fit("addbmm", batch1, batch2, 0, 0)
    _fit("addbmm", batch1, batch2, 2, 1)
    return _plus("addbmm", x, tensordot(batch1, batch2, ([0, 2], [0, 1])), beta, alpha)
