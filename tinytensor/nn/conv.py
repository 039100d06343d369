"""Convolutions as modules. The maths is in ops/conv.py."""

from __future__ import annotations

import math
from typing import Any

from ..creation import empty
from ..errors import ShapeError
from ..ops.windows import both_sides, each
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What they share: weight and bias start uniform in +-1/sqrt(in_channels / groups * K)."""

    dims: int
    transposed = False

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any,
        dilation: Any, groups: int, bias: bool, padding_mode: str, device: Any, dtype: Any,
    ):  # fmt: skip
        super().__init__()
        name = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ShapeError(
                f"{name}: in_channels {in_channels} and out_channels {out_channels} must both "
                f"divide into groups = {groups}"
            )
        if padding_mode not in PADDING_MODES:
            raise ShapeError(f"{name}: padding_mode must be one of {PADDING_MODES}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = each(name, "kernel_size", kernel_size, self.dims)
        self.stride = each(name, "stride", stride, self.dims)
        self.dilation = each(name, "dilation", dilation, self.dims)
        text = isinstance(padding, str)
        self.padding = padding if text else each(name, "padding", padding, self.dims, 0)
        self.padding_mode = padding_mode
        channels = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (channels[0], channels[1] // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        self.bias = Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        fan_in = math.prod(self.weight.shape[1:])
        bound = 1 / math.sqrt(fan_in) if fan_in else 0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}",
            f"kernel_size={self.kernel_size}, stride={self.stride}",
        ]
        for name, plain in (
            ("padding", 0), ("dilation", 1), ("output_padding", 0), ("groups", 1),
            ("padding_mode", "zeros"),
        ):  # fmt: skip
            value = getattr(self, name, plain)
            if value not in (plain, (plain,) * self.dims):
                parts.append(f"{name}={value!r}")
        return ", ".join(parts + (["bias=False"] if self.bias is None else []))


class _Convolution(_Conv):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True,
        padding_mode: str = "zeros", *, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        how = (stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(in_channels, out_channels, kernel_size, *how)

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros" and padding != "valid":
            if padding == "same":
                total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size)]
                ends: Any = [(t // 2, t - t // 2) for t in total]
            else:
                ends = padding
            input, padding = F.pad(input, both_sides(ends), self.padding_mode), 0
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.dims - 1]
        how = (self.stride, padding, self.dilation, self.groups)
        return convolve(input, self.weight, self.bias, *how)


class Conv1d(_Convolution):
    """out[n, o, i] = bias[o] + sum over c, k of input[n, c, i stride + k dilation] weight[o, c, k]

    input (N, C, L) or (C, L), weight (O, C / groups, K).
    """

    dims = 1


class Conv2d(_Convolution):
    """Conv1d with two dims of space: input (N, C, H, W), weight (O, C / groups, kh, kw)"""

    dims = 2


class Conv3d(_Convolution):
    """Conv1d with three dims of space: input (N, C, D, H, W)"""

    dims = 3


class _Transposed(_Conv):
    transposed = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, output_padding: Any = 0, groups: int = 1, bias: bool = True,
        dilation: Any = 1, padding_mode: str = "zeros", *, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        name = type(self).__name__
        if padding_mode != "zeros":
            raise ShapeError(f"{name}: padding_mode must be 'zeros', got {padding_mode!r}")
        how = (stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(in_channels, out_channels, kernel_size, *how)
        self.output_padding = each(name, "output_padding", output_padding, self.dims, 0)

    def forward(self, input: Tensor) -> Tensor:
        spread = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.dims - 1]
        how = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return spread(input, self.weight, self.bias, *how)


class ConvTranspose1d(_Transposed):
    """The transpose of Conv1d: input (N, C, L), weight (C, O / groups, K)"""

    dims = 1


class ConvTranspose2d(_Transposed):
    """The transpose of Conv2d: input (N, C, H, W), weight (C, O / groups, kh, kw)"""

    dims = 2


class ConvTranspose3d(_Transposed):
    """The transpose of Conv3d"""

    dims = 3
