"""Arranging elements anew: repeating, rolling, padding, joining, grids. Made of views and reads."""

from __future__ import annotations

import builtins
import math

import numpy as np

from .. import backend
from ..autograd import Variable, wrap
from ..errors import DimError, DtypeError, ShapeError
from ..op import op
from . import shape as sh
from .index import _getitem
from .reduce import sum
from .shape import canonical, cat, expand, permute, reshape, sizes, stack, transpose, unsqueeze

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
        raise ShapeError("repeat_interleave: repeats must be a vector of int64, or one number")
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


_roll.rule("x", lambda xp, g, shifts, dims: _roll.on(xp, g, shifts=[-s for s in shifts], dims=dims))


def roll(x, shifts, dims=None):
    """out[(i + shift) mod n] = x[i] along each of dims; without dims, of the flat x"""
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    if dims is None or dims == ():
        if len(shifts) != 1:
            raise ShapeError(f"roll: {len(shifts)} shifts need as many dims")
        return reshape(_roll(reshape(x, -1), shifts, [0]), tuple(x.array.shape))
    dims = [dims] if isinstance(dims, int) else list(dims)
    if len(dims) != len(shifts):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(dims)} dims: one for each")
    if x.array.ndim == 0:
        raise DimError("roll: a 0-d tensor has no dims to roll along")
    return _roll(x, shifts, [canonical(d, x.array.ndim) for d in dims])


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


# ------------------------------------------------------------------------------ padding


@op
def _pad(xp, x, *, widths, value):
    return xp.pad(x, widths, constant_values=value) if x.ndim else x.copy()


@_pad.rule("x")
def _(xp, g, x_shape, widths):
    places = tuple(slice(before, before + n) for (before, _), n in zip(widths, x_shape))
    return _getitem.on(xp, g, index=places)


def pad(input, pad, mode="constant", value=None):
    """input with more at its ends: pad = (before, after) of the last dim, then of the last but one

    constant   filled with `value` (0); a negative number cuts off
    reflect    mirrored at the edge element: c b | a b c | b a
    replicate  the edge element again: a a | a b c | c c
    circular   from the other end: b c | a b c | a b
    """
    pad, ndim = [int(n) for n in pad], input.array.ndim
    if len(pad) % 2 or len(pad) > 2 * ndim:
        raise ShapeError(
            f"pad: {len(pad)} numbers for {ndim} dims: two a dim are needed, for the last dims"
        )
    widths = [(0, 0)] * (ndim - len(pad) // 2) + list(zip(pad[-2::-2], pad[-1::-2]))
    shape = tuple(input.array.shape)
    if mode == "constant":
        if any(b + n + a < 0 for (b, a), n in zip(widths, shape)):
            raise ShapeError(f"pad: {pad} cuts more off {shape} than there is")
        if any(b < 0 or a < 0 for b, a in widths):
            kept = [slice(max(-b, 0), n - max(-a, 0)) for (b, a), n in zip(widths, shape)]
            input = _getitem(input, tuple(kept))
        grown = [(max(b, 0), max(a, 0)) for b, a in widths]
        return _pad(input, grown, 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise PadModeError(f"pad: mode must be constant, reflect, replicate or circular: {mode!r}")
    if value not in (None, 0):
        raise ShapeError(f"pad: mode {mode!r} takes no value")
    if ndim - len(pad) // 2 not in (1, 2) or len(pad) > 6:
        raise PadModeError(f"pad: mode {mode!r} pads the last dims of (C, ...) or (N, C, ...)")
    for d, ((b, a), n) in enumerate(zip(widths, shape)):
        if (b, a) != (0, 0):
            input = _getitem(input, (slice(None),) * d + (_padded_places(mode, n, b, a, input),))
    return input


max = builtins.max


class PadModeError(ShapeError, NotImplementedError):
    """A way of padding that there is not."""


def _padded_places(mode, n, before, after, like):
    """For each place of the padded dim the one that it copies."""
    most = {"reflect": n - 1, "replicate": math.inf, "circular": n}[mode]
    if max(before, after) > most or (mode == "replicate" and n == 0):
        raise ShapeError(f"pad: {mode} of {max(before, after)} at a size of {n}: {most} at most")
    if before + n + after < 0:
        raise ShapeError(f"pad: ({before}, {after}) cuts more off {n} than there is")
    places = np.arange(-before, n + after)
    if mode == "replicate":
        places = np.clip(places, 0, n - 1)
    elif mode == "circular":
        kept = np.arange(max(-before, 0), n - max(-after, 0))
        places = kept[np.arange(-max(before, 0), len(kept) + max(after, 0)) % len(kept)]
    else:
        places = n - 1 - np.abs(n - 1 - np.abs(places))
    return backend.to_device(places, backend.device_of(like.array))


# ------------------------------------------------------------------------------ joining, cutting


def narrow(x, dim, start, length):
    """The view of x from start, length long, along dim"""
    if isinstance(start, Variable):
        if start.array.ndim or start.array.dtype.kind not in "iu":
            raise ShapeError("narrow: start must be one integer")
        start = start.array.item()
    if x.array.ndim == 0:
        raise ShapeError("narrow: a 0-d tensor cannot be narrowed")
    d = canonical(dim, x.array.ndim)
    n = x.array.shape[d]
    if not -n <= start <= n:
        raise DimError(f"narrow: start {start} is out of range: dim {dim} has {n} elements")
    start = start + n if start < 0 else start
    if length < 0 or start + length > n:
        raise ShapeError(f"narrow: {length} from {start} on is more than the {n} of dim {dim}")
    return _getitem(x, (slice(None),) * d + (slice(start, start + length),))


def select(x, dim, index):
    """The view x[..., index, ...], index at dim"""
    if x.array.ndim == 0:
        raise DimError("select: a 0-d tensor has no dim to select from")
    d = canonical(dim, x.array.ndim)
    n = x.array.shape[d]
    if not -n <= index < n:
        raise DimError(f"select: index {index} is out of range: dim {dim} has {n} elements")
    return _getitem(x, (slice(None),) * d + (int(index),))


def tensor_split(x, indices_or_sections, dim=0):
    """Views of x along dim: so many, nearly equal, or cut at the given places"""
    if x.array.ndim == 0:
        raise ShapeError("tensor_split: a 0-d tensor cannot be split")
    d, at = canonical(dim, x.array.ndim), indices_or_sections
    n = x.array.shape[d]
    if isinstance(at, Variable):
        at = at.array.tolist()
    if isinstance(at, int):
        if at <= 0:
            raise ShapeError(f"tensor_split: the number of sections must be positive, got {at}")
        small, larger = divmod(n, at)
        at = list(np.cumsum([small + 1] * larger + [small] * (at - larger)))[:-1]
    ends = [slice(a, b) for a, b in zip([None, *at], [*at, None])]
    return tuple(_getitem(x, (slice(None),) * d + (s,)) for s in ends)


def _split_at(name, x, at, dim, least):
    if x.array.ndim < least:
        raise ShapeError(f"{name}: x {tuple(x.array.shape)} must have at least {least} dims")
    if isinstance(at, int) and (at <= 0 or x.array.shape[dim] % at):
        raise ShapeError(
            f"{name}: x {tuple(x.array.shape)}: {x.array.shape[dim]} does not divide into {at}"
        )
    return tensor_split(x, at, dim)


def hsplit(x, indices_or_sections):
    """tensor_split along dim 1 (a vector: dim 0)"""
    return _split_at("hsplit", x, indices_or_sections, 0 if x.array.ndim == 1 else 1, 1)


def vsplit(x, indices_or_sections):
    """tensor_split along dim 0, of at least 2 dims"""
    return _split_at("vsplit", x, indices_or_sections, 0, 2)


def dsplit(x, indices_or_sections):
    """tensor_split along dim 2, of at least 3 dims"""
    return _split_at("dsplit", x, indices_or_sections, 2, 3)


def _each(name, f, tensors):
    """f of one tensor, or of each of several, given as arguments or as a list."""
    if len(tensors) == 1 and isinstance(tensors[0], Variable):
        return f(tensors[0])
    return tuple(f(t) for t in (tensors[0] if len(tensors) == 1 else tensors))


def atleast_1d(*tensors):
    """A number as (1,); others as they are"""
    return _each("atleast_1d", lambda x: x if x.array.ndim else reshape(x, 1), tensors)


def atleast_2d(*tensors):
    """A vector (n,) as (1, n); others as they are"""
    up = lambda x: x if x.array.ndim > 1 else unsqueeze(atleast_1d(x), 0)  # noqa: E731
    return _each("atleast_2d", up, tensors)


def atleast_3d(*tensors):
    """A matrix (n, m) as (n, m, 1), a vector (n,) as (1, n, 1); others as they are"""
    up = lambda x: x if x.array.ndim > 2 else unsqueeze(atleast_2d(x), -1)  # noqa: E731
    return _each("atleast_3d", up, tensors)


def hstack(tensors):
    """The tensors side by side along dim 1; vectors along dim 0"""
    tensors = [atleast_1d(t) for t in sh._tensors("hstack", tensors)]
    return cat(tensors, 0 if tensors[0].array.ndim == 1 else 1)


def vstack(tensors):
    """The tensors one below the other; a vector is a row"""
    return cat([atleast_2d(t) for t in sh._tensors("vstack", tensors)], 0)


def dstack(tensors):
    """The tensors one behind the other, along dim 2"""
    return cat([atleast_3d(t) for t in sh._tensors("dstack", tensors)], 2)


def column_stack(tensors):
    """The tensors side by side; a vector is a column"""
    tensors = sh._tensors("column_stack", tensors)
    return cat([t if t.array.ndim > 1 else reshape(t, (-1, 1)) for t in tensors], 1)


def ravel(x):
    """x as a vector: a view if it is contiguous"""
    return reshape(x, -1)


def moveaxis(x, source, destination):
    """movedim, in NumPy's words"""
    return sh.movedim(x, source, destination)


# ------------------------------------------------------------------------------ grids, diagonals


def broadcast_to(x, shape):
    """The view of x expanded to shape"""
    return expand(x, tuple(shape))


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
    columns = [reshape(g, -1) for g in meshgrid(*tensors)]
    return columns[0] if len(columns) == 1 else stack(columns, 1)


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
    widths, rows, left = [b.array.shape[1] for b in blocks], [], 0
    for block, width in zip(sh._common(blocks), widths):
        rows.append(pad(block, (left, builtins.sum(widths) - left - width)))
        left += width
    return cat(rows, 0)


def kron(x, y):
    """The Kronecker product: x with each element replaced by itself times y"""
    ndim = max(x.array.ndim, y.array.ndim)
    a = (1,) * (ndim - x.array.ndim) + tuple(x.array.shape)
    b = (1,) * (ndim - y.array.ndim) + tuple(y.array.shape)
    x = reshape(x, tuple(n for m in a for n in (m, 1)))
    y = reshape(y, tuple(n for m in b for n in (1, m)))
    return reshape(x * y, tuple(n * m for n, m in zip(a, b)))


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




def channel_shuffle(x, groups):
    """Channels (dim 1), in groups, dealt out in turn: (N, g, c, ...) -> (N, c, g, ...)"""
    n, c, *rest = x.array.shape
    if groups < 1 or c % groups:
        raise ShapeError(f"channel_shuffle: {c} channels do not divide into {groups} groups")
    apart = reshape(x, (n, groups, c // groups, *rest))
    return reshape(transpose(apart, 1, 2), (n, c, *rest))


def pixel_shuffle(input, upscale_factor):
    """(..., C r^2, H, W) -> (..., C, H r, W r): channels become pixels (Shi et al. 2016)"""
    r, (*lead, c, h, w) = upscale_factor, _image("pixel_shuffle", input)
    if r <= 0 or c % (r * r):
        raise ShapeError(f"pixel_shuffle: {c} channels do not divide by {r} squared")
    x = reshape(input, (*lead, c // (r * r), r, r, h, w))
    k = len(lead)
    x = permute(x, (*range(k + 1), k + 3, k + 1, k + 4, k + 2))
    return reshape(x, (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input, downscale_factor):
    """(..., C, H r, W r) -> (..., C r^2, H, W): the inverse of pixel_shuffle"""
    r, (*lead, c, h, w) = downscale_factor, _image("pixel_unshuffle", input)
    if r <= 0 or h % r or w % r:
        raise ShapeError(f"pixel_unshuffle: height {h} and width {w} do not divide by {r}")
    x = reshape(input, (*lead, c, h // r, r, w // r, r))
    k = len(lead)
    x = permute(x, (*range(k + 1), k + 2, k + 4, k + 1, k + 3))
    return reshape(x, (*lead, c * r * r, h // r, w // r))


def _image(name, x):
    if x.array.ndim < 3:
        raise ShapeError(f"{name}: input {tuple(x.array.shape)} must be (..., C, H, W)")
    return x.array.shape
