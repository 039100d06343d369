"""Channels dealt out to pixels, and among themselves."""

from __future__ import annotations

from ..errors import ShapeError
from .shape import permute, reshape, transpose


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
