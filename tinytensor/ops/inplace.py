"""Writing into a tensor's memory, and keeping the graph right about it.

An in-place op computes its result out of place, writes it into the memory, and lets the tensor
take over the result's history. What was saved for backward before is protected by the version
count. A view and its base share memory, so each must learn of writes through the other:

    write through a view:  base = put(base, at the view's places, new value); view = take(base)
    write through a base:  a view finds the version changed when next used; view = take(base)
"""

from __future__ import annotations

import math

import numpy as np

from .. import backend, dtypes
from ..arguments import guard
from ..autograd import Variable, mode, user_line, wrap
from ..errors import DimError, DtypeError, InPlaceError, ShapeError
from ..op import op
from .elementwise import cast
from .index import _index_put, as_index, getitem, ints_first


@op
def _take(xp, x, *, places):
    """out[i] = x.reshape(-1)[places[i]]"""
    return x.reshape(-1)[places]


@op
def _put(xp, x, value, *, places):
    """x with value[i] at flat position places[i]; each position is named at most once"""
    out = x.copy(order="C")
    out.reshape(-1)[places] = value
    return out


_take.rule(
    "x",
    lambda xp, g, x_shape, places: _put.on(xp, _zeros(xp, x_shape, g), g, places=places),
)
_put.rule("x", lambda xp, g, places: _put.on(xp, g, _zeros(xp, places.shape, g), places=places))
_put.rule("value", lambda xp, g, places: _take.on(xp, g, places=places))


def _zeros(xp, shape, like):
    if isinstance(like, Variable):
        return wrap(backend.namespace_of(like.array).zeros(shape, like.array.dtype))
    return xp.zeros(shape, like.dtype)


@op
def _overwrite(xp, x, value):
    """out = value in x's shape and dtype: what is left of x is nothing"""
    return xp.full(x.shape, value, x.dtype)


_overwrite.rule("x", lambda g: g * 0)


@_overwrite.rule("value")
def _(g, value_shape, value_dtype):
    from ..autograd import unbroadcast

    return unbroadcast(g, value_shape).astype(value_dtype)


def assign(x, new, name):
    """x's memory takes new's values and x its history; `name` is what the user called."""
    check_writable(x, name)
    source, target = new.array.dtype, x.array.dtype
    if source != target:
        if dtypes._CATEGORY[source.kind] > dtypes._CATEGORY[target.kind]:
            raise DtypeError(
                f"{name}: the result is {source} and cannot be written into x, {target}: "
                "use the out-of-place form"
            )
        new = cast(new, dtype=target)
    if new.array.shape != x.array.shape:
        raise ShapeError(
            f"{name}: the result has shape {tuple(new.array.shape)}, x {tuple(x.array.shape)}: "
            "an in-place op cannot grow x"
        )
    _keep_old_value(new._node, x)
    with backend.using(x.array):
        x.array[...] = new.array
    _bump(x)
    if mode.enabled and (new.requires_grad or x.requires_grad):
        _adopt(x, new)
    return x


def _keep_old_value(node, x):
    """The op that writes into x saved x itself: let it keep a copy from before the write."""
    old = x.array
    if node is None:
        return
    if type(node.values) is tuple:
        if not any(v is old for v in node.values):
            return
        copy = backend.copy(old)
        node.values = tuple([copy if v is old else v for v in node.values])
        if node.inputs is not None:
            node.inputs = [copy if v is old else v for v in node.inputs]
    elif 0 not in node.plan.watched:  # in a checkpoint, which comes by here again in backward
        return
    i = next(i for i, cell in enumerate(node.cells) if cell is x._version)  # x comes first
    del node.cells[i], node.stamps[i]


def check_writable(x, name):
    """Raise unless x may be written: a leaf that requires grad must keep its value."""
    if not getattr(x.array.flags, "writeable", True):
        raise InPlaceError(f"{name}: the memory of x is read-only: clone() it first")
    if not mode.enabled:
        return
    owner = x if x._base is None else x._base[0]
    if owner.requires_grad and owner._node is None:
        what = "a leaf" if owner is x else "a view of a leaf"
        raise InPlaceError(
            f"{name}: x is {what} that requires grad: write inside `with tt.no_grad():`, or use "
            "the out-of-place form"
        )
    if x.array.size and any(s == 0 and n > 1 for s, n in zip(x.array.strides, x.array.shape)):
        raise InPlaceError(f"{name}: x was expanded, its elements share memory: clone() it first")


def _bump(x):
    x._version[0] += 1
    x._version[1] = user_line(3)
    if x._base is not None and not mode.enabled:
        x._base = (x._base[0], x._version[0])


def _adopt(x, new):
    """x, just written, continues new's history; so does the part of its base that it views."""
    if x._base is None:
        x._node, x.requires_grad = new._node, new.requires_grad
        return
    base = x._base[0]
    places = _places(x, base)
    whole = _put(_before_write(base), new, places)
    base._node, base.requires_grad = whole._node, whole.requires_grad
    _view_again(x, base, places)


def _before_write(base):
    """The base with the history it had; its array is shared, only the history matters here."""
    return wrap(base.array, base._node, base.requires_grad)


def refresh(view):
    """A view whose memory was written elsewhere takes its history from its base again."""
    base, version = view._base
    if view._version[0] == version:
        return
    if base.requires_grad and mode.enabled:
        _view_again(view, base, _places(view, base))


def _view_again(view, base, places):
    with_history = _take(base, places)
    view._node, view.requires_grad = with_history._node, with_history.requires_grad
    view._base = (base, view._version[0])


def _places(view, base):
    """For each element of the view its flat position in the base."""
    v, b = view.array, base.array
    size = b.itemsize
    low, span = 0, 1
    for n, s in zip(b.shape, b.strides):
        if n:
            low += min(0, (n - 1) * s)
            span += (n - 1) * abs(s) // size
    flat = np.zeros(span, np.int64)
    strides = [s // size * 8 for s in b.strides]
    origin = -low // size
    numbers = np.lib.stride_tricks.as_strided(flat[origin:], b.shape, strides)
    numbers[...] = np.arange(math.prod(b.shape)).reshape(b.shape)
    offset = (_pointer(v) - _pointer(b)) // size
    strides = [s // size * 8 for s in v.strides]
    places = np.lib.stride_tricks.as_strided(flat[origin + offset :], v.shape, strides).copy()
    return backend.to_device(places, backend.device_of(b))


def _pointer(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


# ------------------------------------------------------------------------------ the in-place ops


def in_place(function, name):
    """`add_` of `add`: x becomes function(x, ...)."""
    function = guard(function)

    def method(x, *args, **kwargs):
        return assign(x, function(x, *args, **kwargs), name)

    method.__name__ = name
    method.__doc__ = f"In place: x = {function.__name__}(x, ...). Returns x."
    return method


@backend.on_its_device
def setitem(x, index, value):
    """x[index] = value: the memory is written, and the graph knows it."""
    check_writable(x, "x[...] = value")
    if x._base is not None:
        refresh(x)
    first, index = ints_first(as_index(x, index))
    if first is not None:
        return setitem(getitem(x, first), index, value)
    if not isinstance(value, Variable):
        value = wrap(backend.namespace_of(x.array).asarray(value).astype(x.array.dtype))
    if value.array.dtype != x.array.dtype:
        value = cast(value, dtype=x.array.dtype)
    tracked = mode.enabled and (x.requires_grad or value.requires_grad)
    new = _index_put(_before_write(x), value, index) if tracked else None
    try:
        x.array[index] = value.array
    except (ValueError, IndexError) as error:
        about_index = isinstance(error, IndexError) or "indexing arrays" in str(error)
        kind = DimError if about_index else ShapeError
        raise kind(f"x[...] = value: x {tuple(x.array.shape)}: {error}") from None
    _bump(x)
    if new is not None:
        _adopt(x, new)


def copy_(x, source, non_blocking=False):
    """x = source, cast and broadcast to x; returns x."""
    return assign(x, _overwrite(x, source.to(x.device)), "copy_")


def fill_(x, value):
    """x = value everywhere; returns x."""
    return assign(x, _overwrite(x, value), "fill_")


def zero_(x):
    """x = 0 everywhere; returns x."""
    return fill_(x, 0)


def rearranged(function, name):
    """`squeeze_` of `squeeze`: x becomes its own view; the memory stays as it is."""

    def method(x, *args):
        if mode.enabled and x.requires_grad and x._node is None:
            raise InPlaceError(
                f"{name}: x is a leaf that requires grad: use {function.__name__} without _, or "
                "write inside `with tt.no_grad():`"
            )
        view = function(x, *args)
        x.array, x._node, x.requires_grad = view.array, view._node, view.requires_grad
        return x

    method.__name__ = name
    method.__doc__ = f"In place: x = {function.__name__}(x, ...). Returns x."
    return method
