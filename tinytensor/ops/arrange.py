"""Arranging elements anew: repeating, rolling, turning, windows, grids. Made of views and reads."""

from __future__ import annotations

import numpy as np

from .. import backend
from ..autograd import Variable, wrap
from ..errors import ArgumentError, DimError, DtypeError, ShapeError
from ..op import op
from . import shape as sh
from .index import _getitem
from .reduce import sum
from .shape import canonical, expand, reshape, sizes, stack, transpose

# ------------------------------------------------------------------------------ repeating


def repeat(x, *repeats):
    """out = x laid side by side repeats[d] times along each dim; more repeats add dims in front"""
    times, shape = sizes(repeats), tuple(x.array.shape)
    if len(times) < len(shape) or any(r < 0 for r in times):
        raise ShapeError(
            f"repeat: {times}: x {shape} needs {len(shape)} numbers, none of them negative"
        )
    shape = (1,) * (len(times) - len(shape)) + shape
    apart = reshape(x, tuple(n for s in shape for n in (1, s)))
    grown = expand(apart, tuple(n for r, s in zip(times, shape) for n in (r, s)))
    return reshape(grown, tuple(r * s for r, s in zip(times, shape)))


def tile(x, *dims):
    """repeat, where missing repeats in front count as 1"""
    dims = sizes(dims)
    return repeat(x, *(1,) * (x.array.ndim - len(dims)), *dims)


@backend.on_its_device
def repeat_interleave(x, repeats=None, dim=None, *, output_size=None):
    """out = each element of x (each slice along dim) repeats times in a row; repeats may differ

    repeat_interleave(repeats) alone gives the indices: i, repeats[i] times.
    """
    if repeats is None:
        n = x.array.shape[0]
        return wrap(backend.namespace_of(x.array).arange(n).repeat(x.array))
    if dim is None:
        x, dim = reshape(x, -1), 0
    lone = x.array.ndim == 0
    x = reshape(x, 1) if lone else x
    d = canonical(dim, x.array.ndim)
    n, xp = x.array.shape[d], backend.namespace_of(x.array)
    counts = repeats.array if isinstance(repeats, Variable) else xp.asarray(repeats)
    if counts.dtype.kind not in "iu" or counts.ndim > 1:
        raise ArgumentError("repeat_interleave: repeats must be a vector of int64, or one number")
    if counts.size not in (1, n) or (counts < 0).any():
        raise ShapeError(
            f"repeat_interleave: {counts.size} repeats for {n} slices along dim {d}: one for each, "
            "none negative"
        )
    places = xp.repeat(xp.arange(n), xp.broadcast_to(counts.reshape(-1), (n,)))
    return _getitem(x, (slice(None),) * d + (places,))


# ------------------------------------------------------------------------------ rolling, turning


@op
def _roll(xp, x, *, shifts, dims):
    return xp.roll(x, shifts, dims)


@_roll.rule("x")
def _(xp, g, shifts, dims):
    return _roll.on(xp, g, shifts=tuple(-s for s in shifts), dims=dims)


def roll(x, shifts, dims=None):
    """out[(i + shift) mod n] = x[i] along each of dims; without dims, of the flat x"""
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    if dims is None or dims == ():
        if len(shifts) != 1:
            raise ShapeError(f"roll: {len(shifts)} shifts need as many dims")
        return reshape(_roll(reshape(x, -1), shifts, (0,)), tuple(x.array.shape))
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(dims) != len(shifts):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(dims)} dims: one for each")
    if x.array.ndim == 0:
        raise DimError("roll: a 0-d tensor has no dims to roll along")
    return _roll(x, shifts, tuple(canonical(d, x.array.ndim) for d in dims))


def fliplr(x):
    """x with its columns (dim 1) reversed"""
    if x.array.ndim < 2:
        raise ShapeError("fliplr: x must have at least 2 dims")
    return sh.flip(x, (1,))


def flipud(x):
    """x with its rows (dim 0) reversed"""
    if x.array.ndim < 1:
        raise ShapeError("flipud: x must have at least 1 dim")
    return sh.flip(x, (0,))


def rot90(x, k=1, dims=(0, 1)):
    """x turned by k quarters, from the first of dims towards the second"""
    if len(dims) != 2 or x.array.ndim < 2:
        raise ShapeError(f"rot90: x {tuple(x.array.shape)} and dims {dims}: two dims are needed")
    a, b = (canonical(d, x.array.ndim) for d in dims)
    if a == b:
        raise ShapeError(f"rot90: dims {dims} must be two different ones")
    turned = [
        lambda: x.clone(),
        lambda: transpose(sh.flip(x, (b,)), a, b),
        lambda: sh.flip(x, (a, b)),
        lambda: sh.flip(transpose(x, a, b), (b,)),
    ]
    return turned[k % 4]()


def ravel(x):
    """x as a vector: a view if it is contiguous"""
    return reshape(x, -1)


def moveaxis(x, source, destination):
    """movedim, in NumPy's words"""
    return sh.movedim(x, source, destination)


def unfold(x, dimension, size, step=1):
    """out[..., i, ..., k] = x[..., i * step + k, ...]: windows of `size` along dimension, a copy"""
    d = canonical(dimension, x.array.ndim)
    if step <= 0:
        raise ShapeError(f"unfold: step must be positive, got {step}")
    n = x.array.shape[d] if x.array.ndim else 1
    if not 0 <= size <= n:
        raise ShapeError(f"unfold: size {size} is out of range: dimension {dimension} has {n}")
    if x.array.ndim == 0:
        return reshape(x, 1) if size else _getitem(reshape(x, 1), (slice(0, 0),))
    starts = np.arange(0, n - size + 1, step)[:, None] + np.arange(size)
    places = backend.to_device(starts, backend.device_of(x.array))
    windows = _getitem(x, (slice(None),) * d + (places,))
    return sh.movedim(windows, d + 1, -1)


# ------------------------------------------------------------------------------ grids


def broadcast_to(x, shape):
    """The view of x expanded to shape"""
    return expand(x, tuple(shape))


def sum_to_size(x, *size):
    """The transpose of expand: x summed over the dims in which size is 1 or missing"""
    shape, size = tuple(x.array.shape), sizes(size)
    lead = len(shape) - len(size)
    if lead < 0 or any(n not in (1, m) for n, m in zip(size, shape[lead:])):
        raise ShapeError(f"sum_to_size: x {shape} does not come from expanding {size}")
    ones = [lead + d for d, n in enumerate(size) if n == 1 != shape[lead + d]]
    dims = [*range(lead), *ones]
    return reshape(sum(x, dims) if dims else x, size)


def broadcast_shapes(*shapes):
    """The shape that tensors of these shapes broadcast to"""
    from ..tensor import Size

    try:
        return Size(np.broadcast_shapes(*shapes))
    except ValueError:
        raise ShapeError(f"broadcast_shapes: {shapes} do not broadcast") from None


def _listed(tensors):
    """f(a, b) and f([a, b]) mean the same."""
    return tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors


def broadcast_tensors(*tensors):
    """Views of the tensors, all expanded to their common shape"""
    tensors = _listed(tensors)
    shape = broadcast_shapes(*[tuple(t.array.shape) for t in tensors])
    return tuple(expand(t, shape) for t in tensors)


def meshgrid(*tensors, indexing="ij"):
    """Views G_k of a grid: G_k[i_0, i_1, ...] = tensors[k][i_k]; 'xy' swaps the first two dims"""
    tensors = _listed(tensors)
    if not tensors:
        raise ShapeError("meshgrid: pass at least one tensor")
    if indexing not in ("ij", "xy"):
        raise ShapeError(f"meshgrid: indexing must be 'ij' or 'xy', got {indexing!r}")
    for i, t in enumerate(tensors):
        if t.array.ndim > 1:
            raise ShapeError(f"meshgrid: tensors[{i}] {tuple(t.array.shape)} must be a vector")
        if t.array.dtype != tensors[0].array.dtype:
            raise DtypeError("meshgrid: all tensors must have the same dtype")
    shape = tuple(t.array.size for t in tensors)
    grids = []
    for k, t in enumerate(tensors):
        lone = [-1 if d == k else 1 for d in range(len(shape))]
        grids.append(expand(reshape(t, lone), shape))
    if indexing == "xy" and len(shape) > 1:
        grids = [transpose(g, 0, 1) for g in grids]
    return tuple(grids)


def cartesian_prod(*tensors):
    """All ways to take one element of each vector, a row each, the last changing fastest"""
    for i, t in enumerate(tensors):
        if t.array.ndim != 1:
            raise ShapeError(f"cartesian_prod: tensors[{i}] {tuple(t.array.shape)} is no vector")
    columns = [reshape(g, -1) for g in meshgrid(*tensors)]
    return columns[0] if len(columns) == 1 else stack(columns, 1)
