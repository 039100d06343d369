"""From logits to tokens: temperature, top-k, and the loop that writes."""

from __future__ import annotations

import math
from typing import Any

import tinytensor as tt


def generate(
    model: Any,
    idx: tt.Tensor,
    max_new_tokens: int,
    *,
    block_size: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: tt.Generator | None = None,
) -> tt.Tensor:
    """idx (B, T) followed by max_new_tokens more, each drawn given the last block_size tokens.

    temperature  divides the logits: below 1 safer, above 1 wilder, 0 the likeliest token always
    top_k        draw among the k likeliest only
    """
    if idx.ndim != 2 or idx.shape[1] == 0:
        raise ValueError(f"generate needs at least one token to go on from, got {tuple(idx.shape)}")
    training = model.training
    model.eval()
    try:
        with tt.no_grad():
            for _ in range(max_new_tokens):
                logits, _ = model(idx[:, -block_size:])  # (B, 1, V)
                token = draw(logits[:, -1], temperature, top_k, generator)
                idx = tt.cat([idx, token], dim=1)
    finally:
        model.train(training)
    return idx


def draw(
    logits: tt.Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: tt.Generator | None = None,
) -> tt.Tensor:
    """One token per row of logits (B, V), as (B, 1)."""
    if temperature < 0 or not math.isfinite(temperature):
        raise ValueError(f"temperature must be 0 or more, got {temperature}")
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits / temperature
    if top_k is not None:
        kept, _ = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
        logits = logits.masked_fill(logits < kept[:, -1:], -math.inf)
    return tt.multinomial(logits.softmax(-1), 1, generator=generator)
