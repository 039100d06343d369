"""Modules that rearrange or resize images. The maths is in ops/."""

from . import functional as F
from .of_function import REQUIRED, module

Upsample = module(
    "Upsample", F.interpolate, size=None, scale_factor=None, mode="nearest", align_corners=None,
    recompute_scale_factor=None,
)  # fmt: skip
PixelShuffle = module("PixelShuffle", F.pixel_shuffle, upscale_factor=REQUIRED)
PixelUnshuffle = module("PixelUnshuffle", F.pixel_unshuffle, downscale_factor=REQUIRED)
ChannelShuffle = module("ChannelShuffle", F.channel_shuffle, groups=REQUIRED)
_WINDOWS = {"kernel_size": REQUIRED, "dilation": 1, "padding": 0, "stride": 1}
Unfold = module("Unfold", F.unfold, **_WINDOWS)
Fold = module("Fold", F.fold, output_size=REQUIRED, **_WINDOWS)
