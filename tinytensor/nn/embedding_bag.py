"""EmbeddingBag as a module. The maths is in ops/embedding_bag.py."""

from __future__ import annotations

from typing import Any

from ..autograd import no_grad
from ..creation import empty
from ..errors import ArgumentError
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter


class EmbeddingBag(Module):
    """out[b] = sum, mean or max of weight[i] over the indices i in bag b

    input (B, L), or a vector with offsets where bags start; weight (num_embeddings, embedding_dim)
    starts standard normal. Options as in functional.embedding_bag.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, max_norm: float | None = None,
        norm_type: float = 2.0, scale_grad_by_freq: bool = False, mode: str = "mean",
        sparse: bool = False, include_last_offset: bool = False, padding_idx: int | None = None,
        *, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(
                f"EmbeddingBag: padding_idx {padding_idx} is not one of {num_embeddings} rows"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.options = {
            "max_norm": max_norm, "norm_type": norm_type, "scale_grad_by_freq": scale_grad_by_freq,
            "mode": mode, "include_last_offset": include_last_offset, "padding_idx": padding_idx,
        }  # fmt: skip
        self.weight = Parameter(empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.weight)
        if self.options["padding_idx"] is not None:
            with no_grad():
                self.weight[self.options["padding_idx"]] = 0

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        more: Any = {"per_sample_weights": per_sample_weights, **self.options}
        return F.embedding_bag(input, self.weight, offsets, **more)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.options['mode']!r}"
