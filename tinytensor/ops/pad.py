"""Padding: more elements at the ends of the last dims."""

from __future__ import annotations

import math

import numpy as np

from .. import backend
from ..errors import ShapeError
from ..op import op
from .index import _getitem


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
        if not len(kept):
            raise ShapeError(f"pad: ({before}, {after}) leaves nothing of {n} to go around")
        places = kept[np.arange(-max(before, 0), len(kept) + max(after, 0)) % len(kept)]
    else:
        places = n - 1 - np.abs(n - 1 - np.abs(places))
    return backend.to_device(places, backend.device_of(like.array))
