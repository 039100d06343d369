"""The bigram model: the next token from this one alone, by a table of logits.

A (V, V) table is all there is: row i holds the logits of what follows token i. The course's first
model, and the least that any other has to beat.
"""

from __future__ import annotations

from typing import Any

import tinytensor as tt
from tinytensor import nn
from tinytensor.nn import functional as F

from .decoding import generate


class Bigram(nn.Module):
    """Weights start at N(0, 1), as nn.Embedding's do: the first loss is about ln V + 1/2."""

    block_size = 1  # how many tokens it sees

    def __init__(self, vocab_size: int):
        super().__init__()
        self.token_embedding_table = nn.Embedding(vocab_size, vocab_size)

    def forward(
        self, idx: tt.Tensor, targets: tt.Tensor | None = None
    ) -> tuple[tt.Tensor, tt.Tensor | None]:
        """Logits (B, T, V); with targets (B, T) their mean cross-entropy in nats per token too."""
        logits = self.token_embedding_table(idx)  # (B, T, V)
        if targets is None:
            return logits[:, -1:], None
        B, T, V = logits.shape
        return logits, F.cross_entropy(logits.view(B * T, V), targets.reshape(-1), ignore_index=-1)

    def loss(self, idx: tt.Tensor, targets: tt.Tensor) -> tt.Tensor:
        return self(idx, targets)[1]

    def generate(self, idx: tt.Tensor, max_new_tokens: int, **options: Any) -> tt.Tensor:
        """idx (B, T) continued: see gpt.decoding.generate."""
        return generate(self, idx, max_new_tokens, **options)
