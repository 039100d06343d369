"""Batch, instance and group normalisation as modules. The maths is in ops/norm.py."""

from __future__ import annotations

from typing import Any

from ..autograd import no_grad
from ..creation import empty, full, ones, zeros
from ..dtypes import int64
from ..errors import ShapeError
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .of_function import REQUIRED, module
from .parameter import Parameter


class _Norm(Module):
    """weight starts as ones, bias as zeros; the running mean at 0, the running variance at 1."""

    dims: tuple[int, ...]
    wanted: str
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool,
        track_running_stats: bool, device: Any, dtype: Any,
    ):  # fmt: skip
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        how = {"device": device, "dtype": dtype}
        self.weight = Parameter(ones(num_features, **how)) if affine else None
        self.bias = Parameter(zeros(num_features, **how)) if affine else None
        on = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, **how) if on else None)
        self.register_buffer("running_var", ones(num_features, **how) if on else None)
        count = full((), 0, dtype=int64, device=device) if on else None
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        with no_grad():
            if self.track_running_stats:
                self.running_mean.zero_()  # type: ignore[union-attr]
                self.running_var.fill_(1)  # type: ignore[union-attr]
                self.num_batches_tracked.zero_()  # type: ignore[union-attr]

    def _checked(self, input: Tensor) -> None:
        if input.ndim not in self.dims:
            raise ShapeError(
                f"{type(self).__name__}: input {tuple(input.shape)} must be {self.wanted}"
            )

    def _rate(self) -> float:
        """How far the running statistics move; momentum=None averages over all batches."""
        if not self.training or self.num_batches_tracked is None:
            return self.momentum or 0.0
        with no_grad():
            self.num_batches_tracked += 1
        if self.momentum is None:
            return 1 / int(self.num_batches_tracked)
        return self.momentum

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_Norm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True,
        *, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        how = (eps, momentum, affine, track_running_stats, device, dtype)
        super().__init__(num_features, *how)

    def forward(self, input: Tensor) -> Tensor:
        self._checked(input)
        rate = self._rate()
        of_batch = self.training or self.running_mean is None
        how = (self.weight, self.bias, of_batch, rate, self.eps)
        return F.batch_norm(input, self.running_mean, self.running_var, *how)


class BatchNorm1d(_BatchNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias per feature, over the batch (and L):
    input (N, C) or (N, C, L). In eval mode with the running statistics (Ioffe & Szegedy 2015)"""

    dims, wanted = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """BatchNorm1d over images (N, C, H, W)"""

    dims, wanted = (4,), "(N, C, H, W)"


class BatchNorm3d(_BatchNorm):
    """BatchNorm1d over volumes (N, C, D, H, W)"""

    dims, wanted = (5,), "(N, C, D, H, W)"


class _InstanceNorm(_Norm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False, *, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        how = (eps, momentum, affine, track_running_stats, device, dtype)
        super().__init__(num_features, *how)

    def forward(self, input: Tensor) -> Tensor:
        self._checked(input)
        lone = input.ndim == min(self.dims)
        own = self.training or not self.track_running_stats
        how = (self.weight, self.bias, own, self.momentum or 0.0, self.eps)
        x = input.unsqueeze(0) if lone else input
        out = F.instance_norm(x, self.running_mean, self.running_var, *how)
        return out.squeeze(0) if lone else out


class InstanceNorm1d(_InstanceNorm):
    """BatchNorm1d with statistics of each sample by itself: input (N, C, L) or (C, L)"""

    dims, wanted = (2, 3), "(N, C, L) or (C, L)"


class InstanceNorm2d(_InstanceNorm):
    """InstanceNorm1d over images (N, C, H, W) or (C, H, W)"""

    dims, wanted = (3, 4), "(N, C, H, W) or (C, H, W)"


class InstanceNorm3d(_InstanceNorm):
    """InstanceNorm1d over volumes (N, C, D, H, W) or (C, D, H, W)"""

    dims, wanted = (4, 5), "(N, C, D, H, W) or (C, D, H, W)"


class GroupNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over each sample's groups of channels
    (Wu & He 2018): input (N, num_channels, ...)"""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
        *, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ShapeError(
                f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups"
            )
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = eps, affine
        shape = {"device": device, "dtype": dtype}
        self.weight = Parameter(empty(num_channels, **shape)) if affine else None
        self.bias = Parameter(empty(num_channels, **shape)) if affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None and self.bias is not None:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


LocalResponseNorm = module(
    "LocalResponseNorm", F.local_response_norm, size=REQUIRED, alpha=1e-4, beta=0.75, k=1.0
)
