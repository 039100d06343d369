"""Resizing images: one dim of space after the other, each new element mixed of a few old ones."""

from __future__ import annotations

import math

import numpy as np

from .. import backend
from ..autograd import wrap
from ..errors import ArgumentError, ShapeError
from .elementwise import add, cast, clamp, mul
from .index import _getitem
from .pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .rounding import floor

_DIMS = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def interpolate(
    input, size=None, scale_factor=None, mode="nearest", align_corners=None,
    recompute_scale_factor=None, antialias=False,
):  # fmt: skip
    """input (N, C, *S) resized to `size`, or to floor(S * scale_factor)

    mode           nearest, nearest-exact, area; linear, bilinear/bicubic, trilinear: 1, 2, 3 dims
    align_corners  the centres of the corner elements stay (else: the image's edges)
    uint8 images are rounded after each dim: PyTorch's fixed-point numbers differ by 1 at most.
    """
    space = tuple(input.array.shape[2:])
    n = len(space)
    if n not in (1, 2, 3):
        raise ShapeError(f"interpolate: input {tuple(input.array.shape)} must have 3 to 5 dims")
    known = ("nearest", "nearest-exact", "area", *_DIMS)
    if mode not in known or _DIMS.get(mode, n) != n:
        raise ModeError(f"interpolate: mode {mode!r} for {n} dims of space; modes are {known}")
    if antialias:
        raise ModeError("interpolate: antialias=True is not offered")
    if align_corners is not None and mode not in _DIMS:
        raise ArgumentError(f"interpolate: align_corners has no meaning for mode {mode!r}")
    sizes, factors = _target(space, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[n - 1](input, sizes)
    pixels = input.array.dtype.kind == "u" and mode in _DIMS
    x = cast(input, dtype=np.dtype(np.float32)) if pixels else input
    for d in reversed(range(n)):
        x = _resized(x, 2 + d, space[d], sizes[d], factors[d], mode, bool(align_corners))
        if pixels:
            x = clamp(floor(x + 0.5), 0, 255)
    return cast(x, dtype=input.array.dtype) if pixels else x


class ModeError(ArgumentError, NotImplementedError):
    """A way to interpolate that there is not."""


def _target(space, size, scale_factor, recompute):
    """The new sizes, and per dim the factor that places are scaled with, or None: by the sizes."""
    n = len(space)
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate: pass size or scale_factor, one of them")
    given = size if size is not None else scale_factor
    values = list(given) if isinstance(given, (tuple, list)) else [given] * n
    if len(values) != n:
        raise ArgumentError(f"interpolate: {given} must be one number or {n}, one for each dim")
    if size is not None:
        sizes, values = [int(v) for v in values], [None] * n
    else:
        sizes = [math.floor(s * v) for s, v in zip(space, values)]
        values = [None] * n if recompute else values
    if any(s < 1 for s in (*sizes, *space)):
        raise ShapeError(f"interpolate: from {space} to {tuple(sizes)}: sizes must be positive")
    return sizes, values


def _resized(x, d, old, new, factor, mode, align_corners):
    """x with dim d of size new: a sum of reads at places, each with its weight."""
    scale = old / new if factor is None else 1 / factor
    i = np.arange(new)
    if mode.startswith("nearest"):  # in single precision, as PyTorch decides ties
        centre = np.float32(0.5 if mode == "nearest-exact" else 0)
        places = np.floor((i.astype(np.float32) + centre) * np.float32(scale))
        return _read(x, d, np.minimum(places.astype(np.int64), old - 1))
    if align_corners:
        source = i * ((old - 1) / (new - 1) if new > 1 else 0.0)
    else:
        source = (i + 0.5) * scale - 0.5
    if mode == "bicubic":
        taps = _cubic(source)
    else:
        source = np.clip(source, 0, old - 1)
        left = np.floor(source).astype(np.int64)
        taps = [(left, 1 - (source - left)), (left + 1, source - left)]
    out = None
    for places, weight in taps:
        shape = [-1 if k == d else 1 for k in range(x.array.ndim)]
        w = weight.astype(x.array.dtype).reshape(shape)
        part = mul(_read(x, d, np.clip(places, 0, old - 1)), wrap(_on_device_of(x, w)))
        out = part if out is None else add(out, part)
    return out


def _cubic(source, a=-0.75):
    """Four neighbours with the weights of cubic convolution (Keys 1981)."""
    left = np.floor(source).astype(np.int64)
    t = source - left
    near = lambda s: ((a + 2) * s - (a + 3)) * s * s + 1  # noqa: E731  |s| <= 1
    far = lambda s: ((a * s - 5 * a) * s + 8 * a) * s - 4 * a  # noqa: E731  1 < |s| < 2
    weights = (far(t + 1), near(t), near(1 - t), far(2 - t))
    return [(left + k, w) for k, w in zip((-1, 0, 1, 2), weights)]


def _read(x, d, places):
    return _getitem(x, (slice(None),) * d + (_on_device_of(x, places),))


def _on_device_of(x, array):
    return backend.to_device(array, backend.device_of(x.array))
