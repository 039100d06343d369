"""LoRA (Hu et al. 2021): train a low-rank addition to a Linear layer, and leave its weight alone.

    y = x W^T + b + (alpha / r) (x A^T) B^T        A (r, in) random, B (out, r) zeros at first

Of in * out numbers, r * (in + out) are trained, and only those have gradients and moments. A layer
keeps its names, `h.0.attn.c_attn.weight`, and has two more: `h.0.attn.c_attn.lora_A`, `.lora_B`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import tinytensor as tt
from tinytensor import nn
from tinytensor.nn import functional as F

from .config import FinetuneConfig
from .errors import ConfigError
from .patterns import matching

MARK = ".lora_A"


class LoRALinear(nn.Linear):
    """A Linear layer with an addition, sharing its parameters, which are no longer trained."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_A = nn.Parameter(tt.randn(rank, self.in_features) / math.sqrt(self.in_features))
        self.lora_B = nn.Parameter(tt.zeros(self.out_features, rank))
        self.scale = alpha / rank

    def forward(self, input: tt.Tensor) -> tt.Tensor:
        low = F.linear(input, self.lora_A)  # (..., r)
        return super().forward(input) + F.linear(low, self.lora_B) * self.scale

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.lora_A.shape[0]}, scale={self.scale:g}"


def add(model: nn.Module, config: FinetuneConfig) -> None:
    """Give the targets their additions; nothing else is trained from now on."""
    layers = {name: module for name, module in model.named_modules()
              if type(module) is nn.Linear and name != "lm_head"}  # fmt: skip
    chosen = matching("lora_targets", config.lora_targets, layers, "layer",
                      lambda name: (name, name.rpartition(".")[2]))  # fmt: skip
    small = min(min(layers[name].weight.shape) for name in chosen)
    if config.lora_rank > small:
        raise ConfigError([f"--lora-rank {config.lora_rank}: must not exceed {small}, the "
                           "narrowest side of the layers it adds to"])  # fmt: skip
    model.requires_grad_(False)
    for name in chosen:
        parent, _, own = name.rpartition(".")
        adapted = LoRALinear(layers[name], config.lora_rank, config.lora_alpha)
        setattr(model.get_submodule(parent), own, adapted)


def merged(weights: Mapping[str, Any], config: FinetuneConfig) -> dict[str, Any]:
    """The arrays of a plain model that computes the same: W + (alpha / r) B A in place of W."""
    plain = {name: array for name, array in weights.items() if ".lora_" not in name}
    for layer, A, B in pairs(weights):
        W = plain[f"{layer}.weight"]
        change = (config.lora_alpha / A.shape[0]) * (B @ A)  # (out, in)
        plain[f"{layer}.weight"] = (W + change).astype(W.dtype, copy=False)
    return plain


def pairs(weights: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Layer, A and B of each addition."""
    for name in weights:
        if name.endswith(MARK):
            layer = name.removesuffix(MARK)
            yield layer, weights[name], weights[f"{layer}.lora_B"]
