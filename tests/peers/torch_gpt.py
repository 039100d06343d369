"""The same GPT in PyTorch: the oracle that gpt.model is held against. Not used outside of tests."""

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
}


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.ln_1 = nn.LayerNorm(c.n_embd, c.norm_eps, bias=c.bias)
        self.attn = nn.ModuleDict({
            "c_attn": nn.Linear(c.n_embd, 3 * c.n_embd, bias=c.bias),
            "c_proj": nn.Linear(c.n_embd, c.n_embd, bias=c.bias),
        })  # fmt: skip
        self.ln_2 = nn.LayerNorm(c.n_embd, c.norm_eps, bias=c.bias)
        self.mlp = nn.ModuleDict({
            "c_fc": nn.Linear(c.n_embd, 4 * c.n_embd, bias=c.bias),
            "c_proj": nn.Linear(4 * c.n_embd, c.n_embd, bias=c.bias),
        })  # fmt: skip

    def attention(self, x):
        B, T, C = x.shape
        q, k, v = self.attn["c_attn"](x).split(C, dim=2)
        q, k, v = (a.view(B, T, self.c.n_head, -1).transpose(1, 2) for a in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attn["c_proj"](y.transpose(1, 2).reshape(B, T, C))

    def feed_forward(self, x):
        return self.mlp["c_proj"](ACTIVATIONS[self.c.activation](self.mlp["c_fc"](x)))

    def forward(self, x):
        if self.c.norm_position == "post":
            x = self.ln_1(x + self.attention(x))
            return self.ln_2(x + self.feed_forward(x))
        x = x + self.attention(self.ln_1(x))
        return x + self.feed_forward(self.ln_2(x))


class TorchGPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=config.head_bias)
        if config.tie_weights:
            self.lm_head.weight = self.wte.weight

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def twin(model, dtype=torch.float32):
    """A TorchGPT with the weights of a gpt.GPT."""
    other = TorchGPT(model.config)
    other.load_state_dict({k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()})
    return other.to(dtype)


def decay_groups(parameters, weight_decay):
    """Matrices decay, vectors do not: as gpt.train does it."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


