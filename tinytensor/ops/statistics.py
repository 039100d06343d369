"""Sums and means that skip NaNs, mean and variance at once, covariance, differences, integrals."""

from __future__ import annotations

from ..backend import on_its_device
from ..errors import DtypeError, ShapeError
from .elementwise import add, cast, clamp, div, isnan, logical_not, mul, sub, where
from .linalg import matmul
from .logical import logical_xor
from .pieces import narrow
from .reduce import mean, std, sum, var
from .shape import canonical, cat, diagonal, reshape, unsqueeze


def nansum(x, dim=None, keepdim=False, *, dtype=None):
    """out = sum of what is not NaN"""
    floats = x.array.dtype.kind in "fV"
    return sum(where(isnan(x), 0.0, x) if floats else x, dim, keepdim, dtype=dtype)


def nanmean(x, dim=None, keepdim=False, *, dtype=None):
    """out = mean of what is not NaN"""
    if x.array.dtype.kind not in "fV":
        raise DtypeError(f"nanmean: x is {x.array.dtype}, floats are needed: x.float()")
    count = sum(logical_not(isnan(x)), dim, keepdim)
    total = nansum(x, dim, keepdim, dtype=dtype)
    return div(total, cast(count, dtype=total.array.dtype))


def var_mean(x, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The variance and the mean of x over dim"""
    dim, unbiased = (None, dim) if isinstance(dim, bool) else (dim, unbiased)
    return var(x, dim, unbiased, keepdim, correction=correction), mean(x, dim, keepdim)


def std_mean(x, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The standard deviation and the mean of x over dim"""
    dim, unbiased = (None, dim) if isinstance(dim, bool) else (dim, unbiased)
    return std(x, dim, unbiased, keepdim, correction=correction), mean(x, dim, keepdim)


def diff(x, n=1, dim=-1, prepend=None, append=None):
    """out[i] = x[i + 1] - x[i] along dim, n times; prepend and append are joined to x before"""
    if x.array.ndim == 0:
        raise ShapeError("diff: a 0-d tensor has no neighbours")
    if n < 0:
        raise ShapeError(f"diff: n must not be negative, got {n}")
    for which, t in (("prepend", prepend), ("append", append)):
        if t is not None and t.array.ndim != x.array.ndim:
            raise ShapeError(
                f"diff: x {tuple(x.array.shape)} and {which} {tuple(t.array.shape)} must have as "
                "many dims"
            )
    if n == 0:
        return x.clone()
    d = canonical(dim, x.array.ndim)
    x = cat([t for t in (prepend, x, append) if t is not None], d)
    for _ in range(n):
        size = x.array.shape[d]
        if size == 0:
            break
        after, before = narrow(x, d, 1, size - 1), narrow(x, d, 0, size - 1)
        x = logical_xor(after, before) if x.array.dtype.kind == "b" else sub(after, before)
    return x


@on_its_device
def cov(x, *, correction=1, fweights=None, aweights=None):
    """The covariances of the rows of x, each column an observation

    fweights says how often each was made (integers), aweights how much it counts.
    """
    if x.array.ndim > 2:
        raise ShapeError(f"cov: x {tuple(x.array.shape)} must be a matrix, or a vector")
    rows = reshape(x, (1, -1)) if x.array.ndim < 2 else x
    n = rows.array.shape[1]
    for name, w, kinds in (("fweights", fweights, "iu"), ("aweights", aweights, "fV")):
        if w is None:
            continue
        if w.array.dtype.kind not in kinds or tuple(w.array.shape) != (n,):
            raise ShapeError(
                f"cov: {name} must be a vector of {n} {'integers' if kinds == 'iu' else 'floats'}"
            )
        if (w.array < 0).any():
            raise ShapeError(f"cov: {name} must not be negative")
    rows = rows if rows.array.dtype.kind in "fV" else rows.float()
    w = fweights
    if aweights is not None:
        w = aweights if w is None else mul(fweights, aweights)
    if w is None:
        centred, freedom = sub(rows, mean(rows, 1, True)), max(n - correction, 0.0)
    else:
        total = sum(w)
        centred = sub(rows, div(sum(mul(rows, w), 1, True), total))
        lost = correction
        if aweights is not None:
            lost = div(mul(sum(mul(w, aweights)), correction), total)
        freedom = clamp(sub(total, lost), 0)
    weighted = centred if w is None else mul(centred, w)
    out = div(matmul(weighted.to(centred.dtype), centred.t()), freedom)
    return reshape(out, ()) if out.array.size == 1 else out


def corrcoef(x):
    """The correlations of the rows of x: their covariances, divided by both standard deviations"""
    c = cov(x)
    if c.array.ndim == 0:
        return div(c, c)
    deviation = diagonal(c).sqrt()
    return clamp(div(div(c, unsqueeze(deviation, 1)), unsqueeze(deviation, 0)), -1, 1)


def trapezoid(y, x=None, *, dx=None, dim=-1):
    """out = sum of (y[i] + y[i + 1]) / 2 (x[i + 1] - x[i]) along dim; dx instead of the last"""
    if x is not None and dx is not None:
        raise ShapeError("trapezoid: pass x or dx, not both")
    d = canonical(dim, y.array.ndim)
    n = y.array.shape[d]
    if n == 0:
        return sum(y, d)
    pairs = add(narrow(y, d, 0, n - 1), narrow(y, d, 1, n - 1))
    if x is None:
        return div(sum(mul(pairs, 1 if dx is None else dx), d), 2)
    if x.array.ndim == 1 and y.array.ndim > 1:
        if x.array.size != n:
            raise ShapeError(f"trapezoid: {x.array.size} places x for {n} values y")
        x = reshape(x, [-1 if k == d else 1 for k in range(y.array.ndim)])
    elif x.array.shape[d - y.array.ndim :][:1] != (n,):
        raise ShapeError(
            f"trapezoid: x {tuple(x.array.shape)} and y {tuple(y.array.shape)} differ along dim {d}"
        )
    last = d - y.array.ndim
    return div(sum(mul(diff(x, dim=last), pairs), last), 2)


trapz = trapezoid
