"""The singular value decomposition, x = U diag(S) V^T."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..autograd import wrap
from ..backend import namespace_of, on_its_device
from ..errors import DtypeError, ShapeError
from ..op import op


@op
def _svd(xp, x):
    return tuple(xp.linalg.svd(x, full_matrices=False))


@_svd.rule("x")
def _(xp, g, x):
    """U ((skew(U^T gU) / E) S + S (skew(V^T gV) / E) + diag(gS)) V^T, skew(a) = a - a^T and
    E[i, j] = s[j]^2 - s[i]^2, and for the space that U and V leave out
    (1 - U U^T) gU S^-1 V^T + U S^-1 gV^T (1 - V V^T)    (Townsend 2016, "Differentiating the SVD")
    """
    t = lambda a: xp.swapaxes(a, -1, -2)  # noqa: E731
    (u, s, vt), (gu, gs, gvt) = _svd.on(xp, x), g
    row, column = s[..., None, :], s[..., :, None]
    gap = row * row - column * column
    gap = xp.where(gap == 0, 1, gap)  # the diagonal; equal values do not determine U and V
    a, b = t(u) @ gu, t(vt @ t(gvt))
    a, b = (a - t(a)) / gap, (t(b) - b) / gap
    middle = a * row + column * b
    out = u @ middle @ vt + (u * gs[..., None, :]) @ vt
    if x.shape[-2] > x.shape[-1]:
        out = out + ((gu - u @ (t(u) @ gu)) / row) @ vt
    if x.shape[-2] < x.shape[-1]:
        out = out + (u / row) @ (gvt - (gvt @ t(vt)) @ vt)
    return out


class SVD(NamedTuple):
    """What svd returns: x = U @ diag(S) @ Vh."""

    U: Any
    S: Any
    Vh: Any


@on_its_device
def svd(x, full_matrices=True):
    """U (..., n, n), S (..., k), largest first, and Vh (..., m, m) of x (..., n, m), k = min(n, m);
    without full_matrices U (..., n, k) and Vh (..., k, m)

    The gradient through U and V is that of a function which does not depend on their signs, at an
    x whose singular values are distinct. The columns beyond k have none: all of U and Vh are cut
    off the graph where there are such.
    """
    _check(x)
    if not full_matrices or x.array.shape[-1] == x.array.shape[-2]:
        return SVD(*_svd(x))
    u, _, vh = namespace_of(x.array).linalg.svd(x.array, full_matrices=True)
    return SVD(wrap(u), svdvals(x), wrap(vh))


def svdvals(x):
    """The singular values of each matrix of x (..., n, m), largest first"""
    _check(x)
    return _svd(x)[1]


def _check(x):
    if x.array.ndim < 2:
        raise ShapeError(f"svd: x {tuple(x.array.shape)} must be matrices (..., n, m)")
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"svd: x is {x.array.dtype}, floats are needed: x.float()")
