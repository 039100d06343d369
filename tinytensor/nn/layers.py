"""Layers with parameters, and those that training treats differently."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import no_grad
from ..creation import empty
from ..errors import ArgumentError, ShapeError
from ..ops.shape import flatten, unflatten
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter


class Identity(Module):
    """out = input, whatever it was made with."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """out = input @ weight^T + bias;  input (..., in_features), out (..., out_features)

    weight (out_features, in_features) and bias start uniform in +-1/sqrt(in_features).
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True,
        *, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = Parameter(empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def is_plain(self) -> bool:
        """Is calling it F.linear and nothing else: no subclass, no hooks?"""
        return type(self) is Linear and not self._hooks

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}"


class Embedding(Module):
    """out[..., :] = weight[input[...]];  input (...) of ints, out (..., embedding_dim)

    weight (num_embeddings, embedding_dim) starts standard normal; the row padding_idx starts as
    zeros and gets no gradient.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
        *, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ArgumentError(
                    f"Embedding: padding_idx {padding_idx} is not one of {num_embeddings} rows"
                )
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx
        self.weight = Parameter(empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    @classmethod
    def from_pretrained(
        cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None
    ) -> Embedding:
        """An Embedding over the rows of `embeddings`; frozen, they are not trained."""
        if embeddings.ndim != 2:
            raise ShapeError(f"from_pretrained: embeddings {tuple(embeddings.shape)} must be 2-d")
        layer = cls(embeddings.shape[0], embeddings.shape[1], padding_idx)
        layer.weight = Parameter(embeddings, requires_grad=not freeze)
        return layer

    def reset_parameters(self) -> None:
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class LayerNorm(Module):
    """out = (x - mean) / sqrt(var + eps) * weight + bias over the last dims, normalized_shape.

    weight starts as ones, bias as zeros (Ba, Kiros, Hinton 2016). Called with a residual as well,
    it returns two: the norm of input + residual, and that sum.
    """

    def __init__(
        self, normalized_shape: int | tuple, eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, *, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = self.bias = None
        if elementwise_affine:
            shape = self.normalized_shape
            self.weight = Parameter(empty(shape, device=device, dtype=dtype))
            self.bias = Parameter(empty(shape, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Any:
        settings = (self.normalized_shape, self.weight, self.bias, self.eps)
        if residual is None:
            return F.layer_norm(input, *settings)
        return F.add_layer_norm(input, residual, *settings)

    def is_plain(self) -> bool:
        """Is calling it F.layer_norm over one dimension and nothing else: no subclass, no hooks?"""
        return type(self) is LayerNorm and not self._hooks and len(self.normalized_shape) == 1

    def extra_repr(self) -> str:
        affine = self.elementwise_affine
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}"


class RMSNorm(Module):
    """out = x / sqrt(mean of x^2 + eps) * weight over the last dims, normalized_shape.

    weight starts as ones; eps=None is the dtype's machine epsilon (Zhang & Sennrich 2019). Called
    with a residual as well, it returns two: the norm of input + residual, and that sum.
    """

    def __init__(
        self, normalized_shape: int | tuple, eps: float | None = None,
        elementwise_affine: bool = True, *, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = None
        if elementwise_affine:
            self.weight = Parameter(empty(self.normalized_shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Any:
        settings = (self.normalized_shape, self.weight, self.eps)
        if residual is None:
            return F.rms_norm(input, *settings)
        return F.add_rms_norm(input, residual, *settings)

    extra_repr = LayerNorm.extra_repr  # type: ignore[assignment]


def _as_shape(shape: int | tuple) -> tuple:
    return (shape,) if isinstance(shape, int) else tuple(shape)


class Dropout(Module):
    """In training, zero each element with probability p and divide the others by 1 - p."""

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: p must be between 0 and 1, got {p}")
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p) if self.training else input

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """Dims start_dim to end_dim become one; the default keeps the batch."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Dim `dim` becomes several of sizes unflattened_size."""

    def __init__(self, dim: int, unflattened_size: tuple):
        super().__init__()
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        return unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
