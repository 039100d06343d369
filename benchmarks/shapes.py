"""The models that steps are measured with, and one training step of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

import tinytensor as tt
from gpt.config import Config, GPTConfig, read_preset
from gpt.model import GPT
from gpt.options import build


class Shape(NamedTuple):
    """A GPT and the size of its batches."""

    config: GPTConfig
    batch: int

    @property
    def tokens(self) -> int:
        return self.batch * self.config.block_size

    @property
    def flops(self) -> float:
        """Of one step: 6 per weight and token (Kaplan et al. 2020), and the causal half of
        attention's products, 6 n_layer T C per token, forward and backward."""
        c = self.config
        weights = 12 * c.n_layer * c.n_embd**2 + c.vocab_size * c.n_embd
        return self.tokens * 6 * (weights + c.n_layer * c.block_size * c.n_embd)

    def ids(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Random tokens and targets, (B, T) each."""
        size = (2, self.batch, self.config.block_size)
        x, y = np.random.default_rng(seed).integers(0, self.config.vocab_size, size)
        return x, y


def shape(block: int, width: int, heads: int, layers: int, batch: int, vocab: int = 65) -> Shape:
    config = GPTConfig(
        vocab_size=vocab, block_size=block, n_layer=layers, n_head=heads, n_embd=width
    )
    return Shape(config, batch)


SHAPES = {
    "64/128/4/4/12": shape(64, 128, 4, 4, 12),
    "128/192/6/6/16": shape(128, 192, 6, 6, 16),
    "256/384/6/6/16": shape(256, 384, 6, 6, 16),
    "128/384/4/4/32": shape(128, 384, 4, 4, 32, vocab=81),
    "gpt2-124M": shape(256, 768, 12, 12, 2, vocab=50257),
}  # block / width / heads / layers / batch


def named(name: str) -> Shape:
    """A shape of the table, or that of a training preset with 65 symbols."""
    if name in SHAPES:
        return SHAPES[name]
    config = build(Config, read_preset(name), {})
    return Shape(replace(config.gpt, vocab_size=65), config.data.batch_size)


def parameter_groups(parameters: Any, weight_decay: float = 0.1) -> list[dict]:
    """Matrices decay, vectors do not."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def training_step(
    model: Any, ids: tuple[np.ndarray, np.ndarray], lib: Any = tt
) -> Callable[[], object]:
    """A call that does one step: loss, gradients, clipping, AdamW. `lib` has PyTorch's names."""
    x, y = (lib.tensor(a) for a in ids)
    loss_of = model.loss if lib is tt else lambda x, y: model(x, y)[1]
    parameters = list(model.parameters())
    optimizer = lib.optim.AdamW(parameter_groups(parameters), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(x, y).backward()
        if lib is tt:  # as gpt.train clips: in the optimizer's own pass
            norm = tt.nn.utils.get_total_norm([p.grad for p in parameters])
            optimizer.grad_scale = (norm + 1e-6).clamp(min=1)
        else:
            lib.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def our_step(of: Shape) -> Callable[[], object]:
    tt.manual_seed(0)
    return training_step(GPT(of.config), of.ids())
