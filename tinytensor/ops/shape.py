"""Shapes: views where PyTorch gives views (they share memory), joins and splits.

A gradient of a rearrangement is the inverse rearrangement.
"""

from __future__ import annotations

import builtins
import math
import operator

import numpy as np

from ..errors import ArgumentError, DimError, ShapeError
from ..op import op


def sizes(args):
    """x.view(2, 3), x.view((2, 3)) and x.view([2, 3]) mean the same."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        args = args[0]
    try:
        return tuple([operator.index(n) for n in args])
    except TypeError:
        kinds = ", ".join(sorted({type(n).__name__ for n in args}))
        raise ArgumentError(f"sizes and dims must be ints, got {kinds}") from None


def canonical(dim, ndim, name="dim"):
    """dim counted from the front; DimError if it is out of range. A 0-d tensor has dims 0, -1."""
    n = builtins.max(ndim, 1)
    if not -n <= dim < n:
        raise DimError(f"{name} {dim} is out of range: {ndim} dimensions are {-n} to {n - 1}")
    return dim % n


# ------------------------------------------------------------------------------ views


@op(view=True)
def _reshape(xp, x, *, shape):
    return x.reshape(shape)


_reshape.rule("x", lambda xp, g, x_shape: xp.reshape(g, x_shape))


def reshape(x, *shape):
    """The same elements in another shape; one size may be -1. A view where strides allow it."""
    shape = sizes(shape)
    _check_reshape("reshape", x, shape)
    return _reshape(x, shape)


def view(x, *shape):
    """reshape that never copies: ShapeError if the strides do not allow a view."""
    if len(shape) == 1 and not isinstance(shape[0], (int, tuple, list)):
        raise ArgumentError("view(dtype) is not offered: use .to(dtype)")
    shape = sizes(shape)
    _check_reshape("view", x, shape)
    out = _reshape(x, shape)
    if x.array.size and out._version is not x._version:
        raise ShapeError(
            f"view: x {x.array.shape} with strides {x.stride()} cannot be viewed as {shape} "
            "without a copy: use .reshape(...) or .contiguous().view(...)"
        )
    return out


def _check_reshape(name, x, shape):
    size, known = x.array.size, math.prod(n for n in shape if n != -1)
    holes = shape.count(-1)
    if holes > 1 or any(n < -1 for n in shape):
        raise ShapeError(f"{name}: shape {shape}: at most one size may be -1, none less")
    if (holes and (known == 0 or size % known)) or (not holes and known != size):
        raise ShapeError(f"{name}: x {tuple(x.array.shape)} has {size} elements, {shape} does not")


def flatten(x, start_dim=0, end_dim=-1):
    """Dimensions start_dim to end_dim as one."""
    shape = tuple(x.array.shape) or (1,)
    start, end = canonical(start_dim, len(shape)), canonical(end_dim, len(shape))
    if start > end:
        raise ShapeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return _reshape(x, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def unflatten(x, dim, sizes_):
    """Dimension dim as several: the inverse of flatten."""
    shape = tuple(x.array.shape)
    d = canonical(dim, len(shape))
    return reshape(x, *shape[:d], *sizes_, *shape[d + 1 :])


@op(view=True)
def _permute(xp, x, *, dims):
    return xp.transpose(x, dims)


_permute.rule(
    "x",
    lambda xp, g, dims: xp.transpose(g, tuple(dims.index(d) for d in range(len(dims)))),
)


def permute(x, *dims):
    """out.shape[i] = x.shape[dims[i]]: every dimension is named once."""
    dims = sizes(dims)
    ndim = x.array.ndim
    for d in dims if len(dims) == ndim else ():
        canonical(d, ndim)
    if sorted(d % ndim if -ndim <= d < ndim else d for d in dims) != list(range(ndim)):
        raise ShapeError(f"permute: x has {ndim} dims; {dims} must name each of them once")
    return _permute(x, tuple(d % ndim for d in dims))


@op(view=True)
def transpose(xp, x, *, dim0, dim1):
    """out = x with dims dim0 and dim1 swapped"""
    canonical(dim0, x.ndim), canonical(dim1, x.ndim)
    return xp.swapaxes(x, dim0, dim1) if x.ndim else x.reshape(())


transpose.rule(
    "x", lambda xp, g, dim0, dim1: xp.swapaxes(g, dim0, dim1) if g.ndim else g.reshape(())
)


def movedim(x, source, destination):
    """Dimension source becomes dimension destination; the others keep their order."""
    ndim = x.array.ndim
    source = (source,) if isinstance(source, int) else source
    destination = (destination,) if isinstance(destination, int) else destination
    source = [canonical(d, ndim) for d in source]
    destination = [canonical(d, ndim) for d in destination]
    if not len(set(source)) == len(source) == len(destination) == len(set(destination)):
        raise ShapeError(f"movedim: {source} to {destination} must pair distinct dims")
    order = [d for d in range(ndim) if d not in source]
    for d, s in sorted(zip(destination, source)):
        order.insert(d, s)
    return _permute(x, tuple(order)) if ndim else reshape(x, ())


def t(x):
    """The transpose of a matrix; a vector or a number is itself."""
    if x.array.ndim > 2:
        raise ShapeError(f"t: x {tuple(x.array.shape)} has more than 2 dims: use transpose(d0, d1)")
    return transpose(x, 0, 1) if x.array.ndim == 2 else transpose(x, 0, 0)


def squeeze(x, dim=None):
    """Without the dimensions of size 1: all of them, or those among dim."""
    shape = tuple(x.array.shape)
    if dim is None:
        chosen = [*range(len(shape))]
    else:
        dims = dim if isinstance(dim, (tuple, list)) else (dim,)
        chosen = [canonical(d, len(shape)) for d in dims]
    return _reshape(x, tuple(n for d, n in enumerate(shape) if n != 1 or d not in chosen))


def unsqueeze(x, dim):
    """With a new dimension of size 1 at dim."""
    shape = tuple(x.array.shape)
    d = canonical(dim, len(shape) + 1)
    return _reshape(x, (*shape[:d], 1, *shape[d:]))


@op(view=True)
def _expand(xp, x, *, shape):
    return xp.broadcast_to(x, shape)


@_expand.rule("x")
def _(g, x_shape):
    from ..autograd import unbroadcast

    return unbroadcast(g, x_shape)


def expand(x, *shape):
    """x repeated along dimensions of size 1, without a copy; -1 keeps a size."""
    shape = sizes(shape)
    old = tuple(x.array.shape)
    lead = len(shape) - len(old)
    if lead < 0 or any(n == -1 for n in shape[:lead]):
        raise ShapeError(f"expand: x {old} to {shape}: name all {len(old)} sizes, or more in front")
    new = (*shape[:lead], *(o if n == -1 else n for n, o in zip(shape[lead:], old)))
    if any(o != 1 and o != n for n, o in zip(new[lead:], old)):
        raise ShapeError(f"expand: x {old} to {shape}: only dimensions of size 1 can grow")
    return _expand(x, new)


@op(view=True)
def diagonal(xp, x, *, offset=0, dim1=0, dim2=1):
    """out[..., i] = x[..., i, i + offset], over dims dim1 and dim2"""
    canonical(dim1, x.ndim), canonical(dim2, x.ndim)
    out = xp.diagonal(x, offset, dim1, dim2)
    if xp is np:
        out.flags.writeable = x.flags.writeable
    return out


@diagonal.rule("x")
def _(xp, g, x_shape, offset, dim1, dim2):
    return _diagonal_scatter.on(xp, g, shape=x_shape, offset=offset, dim1=dim1, dim2=dim2)


@op
def _diagonal_scatter(xp, x, *, shape, offset, dim1, dim2):
    """Zeros of `shape` with x on a diagonal."""
    out = xp.zeros(shape, x.dtype)
    rows = max_(0, -offset) + xp.arange(x.shape[-1])
    moved = xp.moveaxis(out, (dim1, dim2), (-2, -1))
    moved[..., rows, rows + offset] = x
    return out


max_ = builtins.max
_diagonal_scatter.rule(
    "x",
    lambda xp, g, offset, dim1, dim2: diagonal.on(xp, g, offset=offset, dim1=dim1, dim2=dim2),
)

# ------------------------------------------------------------------------------ joins, splits


@op
def _cat(xp, *xs, dim=0):
    return xp.concatenate(xs, axis=dim)


@_cat.rule("xs")
def _(xp, g, xs_shape, dim):
    grads, start = [], 0
    for shape in xs_shape:
        stop = start + shape[dim]
        grads.append(g[(slice(None),) * (dim % g.ndim) + (slice(start, stop),)])
        start = stop
    return grads


def cat(tensors, dim=0, *, axis=None):
    """The tensors one after the other along dim; all other sizes must be equal."""
    tensors = _tensors("cat", tensors)
    dim = dim if axis is None else axis
    shapes = [tuple(t.array.shape) for t in tensors]
    kept = [i for i, s in enumerate(shapes) if s != (0,)] or [0]  # PyTorch skips legacy empties
    tensors, ndim = _common([tensors[i] for i in kept]), len(shapes[kept[0]])
    if ndim == 0:
        raise ShapeError("cat: a 0-d tensor cannot be concatenated: use stack")
    d = canonical(dim, ndim)
    for i in kept:
        s, first = shapes[i], shapes[kept[0]]
        if len(s) != ndim or any(a != b for k, (a, b) in enumerate(zip(s, first)) if k != d):
            raise ShapeError(
                f"cat: tensors[{i}] {s} and tensors[{kept[0]}] {first}: all sizes but dim {d} "
                "must be equal"
            )
    return _cat(*tensors, dim=d)


@op
def _stack(xp, *xs, dim=0):
    return xp.stack(xs, axis=dim)


_stack.rule("xs", lambda xp, g, xs_shape, dim: list(_unbind.on(xp, g, dim=dim)))


def stack(tensors, dim=0, *, axis=None):
    """The tensors side by side along a new dimension dim; all shapes must be equal."""
    tensors = _tensors("stack", tensors)
    shapes = [tuple(t.array.shape) for t in tensors]
    for i, s in enumerate(shapes):
        if s != shapes[0]:
            raise ShapeError(f"stack: tensors[{i}] {s} and tensors[0] {shapes[0]} must be equal")
    d = canonical(dim if axis is None else axis, len(shapes[0]) + 1)
    return _stack(*_common(tensors), dim=d)


def _tensors(name, tensors):
    from ..autograd import Variable

    if isinstance(tensors, Variable) or not hasattr(tensors, "__iter__"):
        raise ArgumentError(f"{name}: tensors must be a list of tensors, {name}([a, b])")
    tensors = list(tensors)
    if not tensors:
        raise ShapeError(f"{name}: the list of tensors is empty")
    for i, x in enumerate(tensors):
        if not isinstance(x, Variable):
            raise ArgumentError(f"{name}: tensors[{i}] must be a Tensor, got {type(x).__name__}")
    return tensors


def _common(tensors):
    """All in PyTorch's common dtype."""
    from ..dtypes import result_type
    from .elementwise import cast

    dtype = result_type(*tensors)
    return [x if x.array.dtype == dtype else cast(x, dtype=dtype) for x in tensors]


@op(view=True)
def _split(xp, x, *, sizes, dim):
    out, start = [], 0
    for n in sizes:
        out.append(x[(slice(None),) * dim + (slice(start, start + n),)])
        start += n
    return tuple(out)


_split.rule("x", lambda xp, g, dim: xp.concatenate(g, axis=dim))


@op(view=True)
def _unbind(xp, x, *, dim):
    rows = xp.moveaxis(x, dim, 0)
    return tuple([rows[i, ...] for i in range(len(rows))])


_unbind.rule("x", lambda xp, g, dim: xp.stack(g, axis=dim))


def split(x, split_size_or_sections, dim=0):
    """Views of x along dim: of one size (the last may be smaller), or of the listed sizes."""
    if x.array.ndim == 0:
        raise ShapeError("split: a number cannot be split")
    d = canonical(dim, x.array.ndim)
    n = x.array.shape[d]
    if isinstance(split_size_or_sections, (tuple, list)):
        parts = tuple(split_size_or_sections)
        if builtins.sum(parts) != n or any(p < 0 for p in parts):
            raise ShapeError(f"split: the sections {list(parts)} must add up to {n}, dim {dim}")
    else:
        size = split_size_or_sections
        if size < 0 or (size == 0 and n):
            raise ShapeError(f"split: split_size {size} must be positive")
        parts = tuple(builtins.min(size, n - i) for i in range(0, n, size)) if n else (0,)
    return _split(x, parts, d)


def chunk(x, chunks, dim=0):
    """At most `chunks` views of x along dim, equal but for the last."""
    if chunks < 1:
        raise ShapeError(f"chunk: chunks must be positive, got {chunks}")
    if x.array.ndim == 0:
        raise ShapeError("chunk: a number cannot be split")
    d = canonical(dim, x.array.ndim)
    n = x.array.shape[d]
    if n == 0:
        return _split(x, (0,) * chunks, d)
    return split(x, -(-n // chunks), dim)


def unbind(x, dim=0):
    """x[0], x[1], ... along dim, as views."""
    d = canonical(dim, x.array.ndim)
    return _unbind(x, d) if 0 not in x.array.shape[d : d + 1] else ()


# ------------------------------------------------------------------------------ arrangements


@op
def flip(xp, x, *, dims):
    """out = x with the order along dims reversed; a copy, as in PyTorch"""
    for d in dims if isinstance(dims, (tuple, list)) else (dims,):
        canonical(d, x.ndim)
    return xp.flip(x, dims).copy() if x.ndim else x.copy()


flip.rule("x", lambda xp, g, dims: xp.flip(g, dims))


def _matrix(name, x):
    if x.ndim < 2:
        raise ShapeError(f"{name}: x {x.shape} must have at least 2 dims")
    return x


@op
def tril(xp, x, *, diagonal=0):
    """out = x on and below the diagonal, 0 above: x[..., i, j] where j <= i + diagonal"""
    return xp.tril(_matrix("tril", x), diagonal)


tril.rule("x", lambda xp, g, diagonal: tril.on(xp, g, diagonal=diagonal))


@op
def triu(xp, x, *, diagonal=0):
    """out = x on and above the diagonal, 0 below: x[..., i, j] where j >= i + diagonal"""
    return xp.triu(_matrix("triu", x), diagonal)


triu.rule("x", lambda xp, g, diagonal: triu.on(xp, g, diagonal=diagonal))


def contiguous(x):
    """x in row-major order: x itself if it is so already, else a copy."""
    from .elementwise import clone

    return x if x.array.flags.c_contiguous else clone(x)
