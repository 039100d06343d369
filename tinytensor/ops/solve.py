"""Inverse, determinant, solution of linear systems. LAPACK does the work; the rules are products.

    d(x^-1) = -x^-1 dx x^-1          d(det x) = det(x) tr(x^-1 dx)        (Jacobi's formula)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..autograd import unbroadcast
from ..errors import DtypeError, ShapeError, SingularError
from ..op import op
from .elementwise import log
from .shape import squeeze, unsqueeze


def _square(name, x):
    shape = tuple(x.array.shape)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"{name}: x {shape} must be square matrices (..., n, n)")
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"{name}: x is {x.array.dtype}, floats are needed: x.float()")


def _transposed(xp, x):
    return xp.swapaxes(x, -1, -2)


# ------------------------------------------------------------------------------ inverse


@op
def _inv(xp, x):
    try:
        return xp.linalg.inv(x)
    except np.linalg.LinAlgError as error:
        raise SingularError(f"inv: x {x.shape} is singular: {error}") from None


@_inv.rule("x")
def _(xp, g, out):
    inverse = _transposed(xp, out)
    return -(inverse @ g @ inverse)


def inv(x):
    """out = x^-1, for each square matrix of x (..., n, n). Raises SingularError"""
    _square("inv", x)
    return _inv(x)


inverse = inv


@op
def _solve(xp, x, y):
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])  # which CuPy leaves to us
    try:
        return xp.linalg.solve(*[xp.broadcast_to(a, lead + a.shape[-2:]) for a in (x, y)])
    except np.linalg.LinAlgError as error:
        raise SingularError(f"solve: x {x.shape} is singular: {error}") from None


@_solve.rule("y")
def _(xp, g, x, y_shape):
    return unbroadcast(_solve.on(xp, _transposed(xp, x), g), y_shape)


@_solve.rule("x")
def _(xp, g, x, out):
    g_y = _solve.on(xp, _transposed(xp, x), g)
    return unbroadcast(-(g_y @ _transposed(xp, out)), x.shape)


def solve(x, y, *, left=True):
    """out with x @ out = y, for square x (..., n, n); y (..., n, k), or vectors (..., n)

    left=False solves out @ x = y. Raises SingularError.
    """
    _square("solve", x)
    if x.array.dtype != y.array.dtype:
        raise DtypeError(f"solve: x is {x.array.dtype}, y is {y.array.dtype}: cast one")
    vector = y.array.ndim == 1 or y.array.shape == x.array.shape[:-1]
    if vector:
        y = unsqueeze(y, -1)
    a, b = tuple(x.array.shape), tuple(y.array.shape)
    if not left:
        if vector:
            raise ShapeError("solve: left=False needs y to be matrices, not vectors")
        x, y = x.mT, y.mT
        b = tuple(y.array.shape)
    if b[-2] != a[-1]:
        raise ShapeError(f"solve: x {a} and y {b}: dim -2 of y must be {a[-1]}")
    out = _solve(x, y)
    if vector:
        return squeeze(out, -1)
    return out if left else out.mT


# ------------------------------------------------------------------------------ determinant


@op
def _det(xp, x):
    return xp.linalg.det(x)


@_det.rule("x")
def _(xp, g, x, out):
    """g det(x) x^-T. At a singular x this is the matrix of cofactors, from x = U diag(s) V^T:
    det(U) det(V) U diag(product of the other s) V^T."""
    if hasattr(x, "requires_grad"):  # differentiated again: defined where x is invertible
        return (g * out)[..., None, None] * _transposed(xp, _inv.on(xp, x))
    u, s, vt = xp.linalg.svd(x)
    n = s.shape[-1]
    others = xp.broadcast_to(s[..., None, :], (*s.shape[:-1], n, n))
    others = xp.where(xp.eye(n, dtype=bool), 1, others).prod(axis=-1)
    sign = xp.linalg.det(u) * xp.linalg.det(vt)
    return ((g * sign)[..., None, None] * (u * others[..., None, :]) @ vt).astype(x.dtype)


def det(x):
    """out = determinant of each square matrix of x (..., n, n)"""
    _square("det", x)
    return _det(x)


class SignAndLog(NamedTuple):
    """What slogdet returns: det(x) = sign * e^logabsdet."""

    sign: Any
    logabsdet: Any


@op
def _slogdet(xp, x):
    sign, logabsdet = xp.linalg.slogdet(x)
    return sign, logabsdet


@_slogdet.rule("x")
def _(xp, g, x):
    return g[1][..., None, None] * _transposed(xp, _inv.on(xp, x))


def slogdet(x):
    """sign and ln |det x|, which neither overflows nor vanishes where det does"""
    _square("slogdet", x)
    return SignAndLog(*_slogdet(x))


def logdet(x):
    """out = ln det(x), NaN where that is negative"""
    _square("logdet", x)
    sign, logabsdet = slogdet(x)
    return logabsdet + log(sign.detach())
