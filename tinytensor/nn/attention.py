"""Multi-head attention, written out step by step with the shapes beside it.

For reading. A model for speed calls F.scaled_dot_product_attention, as gpt/model.py does: one op
that does the same without keeping the intermediate results.
"""

from __future__ import annotations

import math
from typing import Any

from ..creation import empty, ones
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor
from . import functional as F
from . import init
from .layers import Linear
from .module import Module
from .parameter import Parameter


class MultiheadAttention(Module):
    """Attention(Q, K, V) = softmax(Q K^T / sqrt(hs)) V, in num_heads heads side by side.

    Vaswani et al. 2017, section 3.2. Each head looks at hs = embed_dim / num_heads features of
    learned projections of query, key and value; out_proj mixes what the heads found.
    Parameters as PyTorch's: in_proj_weight (3E, E) = W_q, W_k and W_v stacked, in_proj_bias (3E,),
    out_proj.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
        *, batch_first: bool = False, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        if embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: embed_dim {embed_dim} is not divisible by num_heads "
                f"{num_heads}"
            )
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.dropout, self.batch_first = dropout, batch_first
        made = {"device": device, "dtype": dtype}
        self.in_proj_weight = Parameter(empty(3 * embed_dim, embed_dim, **made))
        self.in_proj_bias = Parameter(empty(3 * embed_dim, **made)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, **made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.xavier_uniform_(self.in_proj_weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None,
        average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """(output, weights): output like query; weights (B, T, S), or (B, nh, T, S) unaveraged.

        query (B, T, E), key and value (B, S, E) with batch_first, else (T, B, E) and (S, B, E);
        without a batch (T, E) and (S, E).
        key_padding_mask  (B, S): True hides a key, or floats added to its scores
        attn_mask         (T, S) or (B * nh, T, S): True hides a pair, or floats added to scores
        is_causal         position i sees keys up to i
        """
        batched = query.ndim == 3
        if not batched:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        B, T, E = self._checked(query, key, value)
        S, nh, hs = key.shape[1], self.num_heads, self.head_dim

        W_q, W_k, W_v = self.in_proj_weight.chunk(3)  # (E, E) each
        b_q, b_k, b_v = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q = F.linear(query, W_q, b_q)  # (B, T, E)
        k = F.linear(key, W_k, b_k)  # (B, S, E)
        v = F.linear(value, W_v, b_v)  # (B, S, E)
        q = q.view(B, T, nh, hs).transpose(1, 2)  # (B, nh, T, hs)
        k = k.view(B, S, nh, hs).transpose(1, 2)  # (B, nh, S, hs)
        v = v.view(B, S, nh, hs).transpose(1, 2)  # (B, nh, S, hs)

        scores = q @ k.transpose(-1, -2) / math.sqrt(hs)  # (B, nh, T, S)
        if is_causal:
            future = ones(T, S, dtype=bool, device=scores.device).triu(1)  # (T, S)
            scores = scores.masked_fill(future, -math.inf)
        if attn_mask is not None:
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.view(B, nh, T, S)
            scores = _hide(scores, attn_mask)
        if key_padding_mask is not None:
            scores = _hide(scores, key_padding_mask.view(B, 1, 1, S))
        weights = F.softmax(scores, dim=-1)  # (B, nh, T, S): who looks at whom
        weights = F.dropout(weights, self.dropout, self.training)

        out = weights @ v  # (B, nh, T, hs)
        out = out.transpose(1, 2).reshape(B, T, E)  # the heads side by side again
        out = self.out_proj(out)  # (B, T, E)

        seen = None
        if need_weights:
            seen = weights.mean(1) if average_attn_weights else weights
        if not batched:
            return out.squeeze(0), None if seen is None else seen.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), seen

    def _checked(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[int, int, int]:
        q, k, v = (tuple(x.shape) for x in (query, key, value))
        E = self.embed_dim
        if not (len(q) == len(k) == 3 and q[2] == k[2] == E and k == v and q[0] == k[0]):
            raise ShapeError(
                f"MultiheadAttention: query {q}, key {k} and value {v} as (B, T or S, E): all "
                f"must end in embed_dim {E}, agree in B, and key and value in S"
            )
        return q  # type: ignore[return-value]


def _hide(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask, -math.inf) if mask.dtype.kind == "b" else scores + mask
