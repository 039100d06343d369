"""GPT-2 (Radford et al. 2019) on tinytensor, with GPT-2's parameter names.

    x = wte[idx] + wpe[position]
    n_layer times:  x = x + attn(ln_1(x));  x = x + mlp(ln_2(x))
    logits = lm_head(ln_f(x))

The course's variant by config: norm_position 'post' (x = ln_1(x + attn(x))), ReLU, an untied head.
Shapes: B batch, T time, C = n_embd, nh = n_head, hs = C / nh, V = vocab_size.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import tinytensor as tt
from tinytensor import nn
from tinytensor.nn import functional as F

from .cache import KVCache, LayerReading, Reading
from .config import GPTConfig
from .decoding import generate

ACTIVATIONS = {
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
}


class CausalSelfAttention(nn.Module):
    """Each position looks at itself and at those before it, in n_head ways at once."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: tt.Tensor, past: LayerReading | None = None, norm: nn.LayerNorm | None = None
    ) -> tt.Tensor:
        """Attention in norm(x), if there is a norm, else in x."""
        # (B, T, 3C): queries, keys and values of all heads in one product
        qkv = self.c_attn(x) if norm is None else linear_of_norm(self.c_attn, norm, x)
        if past is None:
            p = self.dropout if self.training else 0.0
            y = F.packed_attention(qkv, self.n_head, p, is_causal=True)  # (B, T, C)
        else:
            y = self.read_on(qkv, past)
        return self.resid_dropout(self.c_proj(y))

    def read_on(self, qkv: tt.Tensor, past: LayerReading) -> tt.Tensor:
        """The same where not every earlier token is seen, or a cache holds what is."""
        if past.slot is not None and not (self.training or tt.is_grad_enabled()):
            return F.cached_attention(qkv, self.n_head, past.keys, past.values, past.slot)
        B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        heads = qkv.view(B, T, 3, self.n_head, C // self.n_head)  # (B, T, 3, nh, hs)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # (B, nh, T, hs) each
        k, v = past.extend(k, v)  # (B, nh, S, hs) each, S = T + what the cache held
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, past.mask, p, past.is_causal)
        return y.transpose(1, 2).reshape(B, T, C)  # heads side by side again


class MLP(nn.Module):
    """Position by position: four times as wide, a nonlinearity, and back."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.in_one = config.activation == "gelu_tanh"  # what there is an op for
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: tt.Tensor) -> tt.Tensor:
        if self.is_one_op():
            y = F.gelu_mlp(x, *self.weights())
        else:
            y = self.c_proj(self.activation(self.c_fc(x)))
        return self.dropout(y)  # (B, T, C)

    def add_to(self, residual: tt.Tensor, x: tt.Tensor, norm: nn.LayerNorm) -> tt.Tensor:
        """total + mlp(norm(total)) of total = residual + x"""
        drops = self.training and self.dropout.p > 0
        if norm.is_plain() and self.is_one_op() and not drops:
            return F.layer_norm_mlp(x, residual, norm.weight, norm.bias, *self.weights(), norm.eps)
        h, total = norm(x, residual=residual)
        return total + self(h)

    def is_one_op(self) -> bool:
        return self.in_one and self.c_fc.is_plain() and self.c_proj.is_plain()

    def weights(self) -> tuple[Any, Any, Any, Any]:
        return self.c_fc.weight, self.c_fc.bias, self.c_proj.weight, self.c_proj.bias


def linear_of_norm(linear: nn.Linear, norm: nn.LayerNorm, x: tt.Tensor) -> tt.Tensor:
    """linear(norm(x))"""
    if norm.is_plain() and linear.is_plain():
        return F.layer_norm_linear(
            x, norm.weight, norm.bias, linear.weight, linear.bias, norm.eps
        )
    return linear(norm(x))


class Block(nn.Module):
    """Attention, then MLP, each added to the residual stream."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.post_norm = config.norm_position == "post"
        self.ln_1 = nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: tt.Tensor, past: LayerReading | None = None) -> tt.Tensor:
        if self.post_norm:
            x = self.ln_1(x + self.attn(x, past))
            return self.ln_2(x + self.mlp(x))
        # x = x + attn(ln_1(x));  x + mlp(ln_2(x)): a norm is one op with what comes behind it
        h = self.attn(x, past, norm=self.ln_1)
        return self.mlp.add_to(x, h, norm=self.ln_2)


def sinusoids(T: int, C: int) -> tt.Tensor:
    """(T, C): sine and cosine of t / 10000^(c/C) in turn (Vaswani et al. 2017, section 3.5)."""
    rate = (tt.arange(0, C, 2) * (-math.log(1e4) / C)).exp()  # (C/2,), rounded up
    angle = tt.arange(T).unsqueeze(1) * rate  # (T, C/2)
    return tt.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :C]


class GPT(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config, self.block_size = config, config.block_size
        self.checkpoint_activations = False  # True: in training a block keeps its input alone
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=config.head_bias)
        if config.tie_weights:  # Press & Wolf 2017: reading and writing share one matrix
            self.lm_head.weight = self.wte.weight
        self._init_weights()

    def _init_weights(self) -> None:
        """GPT-2's: N(0, s), s = init_std, and s / sqrt(2 n_layer) into the residual stream.

        With an untied head the first loss is ln V + n_embd * s^2 / 2 on average: ln_f makes the
        n_embd squares of its output add up to n_embd, so a logit is N(0, n_embd * s^2).
        """
        std = self.config.init_std
        for name, p in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(p, std=std / math.sqrt(2 * self.config.n_layer))
            elif p.ndim == 2:
                nn.init.normal_(p, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        if self.config.position_init == "sinusoidal":
            with tt.no_grad():
                self.wpe.weight.copy_(std * sinusoids(*self.wpe.weight.shape))

    def forward(
        self, idx: tt.Tensor, targets: tt.Tensor | None = None, cache: Reading | None = None
    ) -> tuple[tt.Tensor, tt.Tensor | None]:
        """Logits (B, T, V) and, given targets (B, T), their mean cross-entropy in nats per token.

        Without targets only the last position's logits, (B, 1, V): all that sampling needs.
        Targets of -1 do not count. With a cache, idx are the tokens that it does not hold yet;
        gpt.documents.Documents in its place keeps documents in a row apart.
        """
        x = self.hidden(idx, cache)
        if targets is None:
            x = x[:, -1:] if cache is None else cache.last(x)  # (B, 1, C)
        if cache is not None:
            cache.finish()
        logits = self.lm_head(self.ln_f(x))  # (B, T, V)
        if targets is None:
            return logits, None
        rows = logits.view(-1, self.config.vocab_size)
        return logits, F.cross_entropy(rows, targets.reshape(-1), ignore_index=-1)

    def loss(
        self, idx: tt.Tensor, targets: tt.Tensor, cache: Reading | None = None
    ) -> tt.Tensor:
        """The loss alone, as training needs it: on a CPU the logits are never in memory at once."""
        x = self.ln_f(self.hidden(idx, cache)).view(-1, self.config.n_embd)  # (B * T, C)
        head, targets = self.lm_head, targets.reshape(-1)
        return F.fused_linear_cross_entropy(
            x, head.weight, targets, linear_bias=head.bias, ignore_index=-1
        )

    def hidden(self, idx: tt.Tensor, cache: Reading | None = None) -> tt.Tensor:
        """The residual stream behind the last block, (B, T, C)."""
        T = idx.shape[1]
        if T > self.config.block_size:
            raise ValueError(f"{T} tokens do not fit block_size = {self.config.block_size}")
        position = tt.arange(T, device=idx.device) if cache is None else cache.positions
        x = self.drop(self.wte(idx) + self.wpe(position))  # (B, T, C) + (T, C)
        forget = self.checkpoint_activations and self.training
        for i, block in enumerate(self.h):
            read = () if cache is None else (cache.layer(i),)
            x = tt.autograd.checkpoint(block, x, *read) if forget else block(x, *read)
        return x

    def cache(self, rows: int, slots: int | None = None) -> KVCache:
        """Room for the keys and values of `rows` sequences of up to `slots` tokens."""
        weight = self.wte.weight
        dtype = tt.get_autocast_dtype(weight.device.type) or weight.dtype
        return KVCache(self.config, rows, slots, device=weight.device, dtype=dtype)

    def generate(self, idx: tt.Tensor, max_new_tokens: int, **options: Any) -> tt.Tensor:
        """idx (B, T) continued: see gpt.decoding.generate."""
        return generate(self, idx, max_new_tokens, **options)

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str = "cpu", **options: Any) -> GPT:
        """A model from a Hugging Face folder, a run or a file: see gpt.pretrained."""
        from .pretrained import from_pretrained

        return from_pretrained(path, device, **options)

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Write a folder that `transformers` loads: see gpt.huggingface.save_pretrained."""
        from .huggingface import save_pretrained

        save_pretrained(self, folder, **options)
