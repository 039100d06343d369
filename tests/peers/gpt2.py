"""The judges of gpt.pretrained: transformers' GPT-2, and the course's model as it teaches it."""

import sys

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()


def random_gpt2(seed=0, **settings):
    """A GPT2LMHeadModel all of whose weights matter: no zeros, no ones, logits of a useful size."""
    small = {"vocab_size": 31, "n_positions": 16, "n_embd": 12, "n_layer": 2, "n_head": 3,
             "bos_token_id": None, "eos_token_id": None}  # fmt: skip
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(**{**small, **settings})).eval()
    return randomised(model)


def randomised(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = any(part in name for part in ("ln_", "ln1", "ln2")) and name.endswith("weight")
            p.copy_(norm + 0.25 * torch.randn_like(p))
    return model


class Head(nn.Module):
    def __init__(self, n_embd, head_size, block_size):
        super().__init__()
        self.key = nn.Linear(n_embd, head_size, bias=False)
        self.query = nn.Linear(n_embd, head_size, bias=False)
        self.value = nn.Linear(n_embd, head_size, bias=False)
        self.register_buffer("tril", torch.tril(torch.ones(block_size, block_size)))

    def forward(self, x):
        T = x.shape[1]
        wei = self.query(x) @ self.key(x).transpose(-2, -1) * self.key.out_features**-0.5
        wei = wei.masked_fill(self.tril[:T, :T] == 0, float("-inf"))
        return F.softmax(wei, dim=-1) @ self.value(x)


class MultiHeadAttention(nn.Module):
    def __init__(self, n_embd, n_head, block_size):
        super().__init__()
        size = n_embd // n_head
        self.heads = nn.ModuleList([Head(n_embd, size, block_size) for _ in range(n_head)])
        self.proj = nn.Linear(n_embd, n_embd)

    def forward(self, x):
        return self.proj(torch.cat([head(x) for head in self.heads], dim=-1))


class FeedForward(nn.Module):
    def __init__(self, n_embd):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.ReLU(),
                                 nn.Linear(4 * n_embd, n_embd), nn.Dropout(0.2))  # fmt: skip

    def forward(self, x):
        return self.net(x)


class CourseBlock(nn.Module):
    def __init__(self, n_embd, n_head, block_size, post):
        super().__init__()
        self.sa = MultiHeadAttention(n_embd, n_head, block_size)
        self.ffwd = FeedForward(n_embd)
        self.ln1, self.ln2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.post = post

    def forward(self, x):
        if self.post:  # the course
            x = self.ln1(x + self.sa(x))
            return self.ln2(x + self.ffwd(x))
        x = x + self.sa(self.ln1(x))  # the lecture that it is after
        return x + self.ffwd(self.ln2(x))


class GPTLanguageModel(nn.Module):
    def __init__(self, vocab_size=29, n_embd=24, n_head=4, n_layer=2, block_size=16, post=True):
        super().__init__()
        self.token_embedding_table = nn.Embedding(vocab_size, n_embd)
        self.position_embedding_table = nn.Embedding(block_size, n_embd)
        self.blocks = nn.Sequential(
            *[CourseBlock(n_embd, n_head, block_size, post) for _ in range(n_layer)]
        )
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size)

    def forward(self, index):
        x = self.token_embedding_table(index)
        x = x + self.position_embedding_table(torch.arange(index.shape[1]))
        return self.lm_head(self.ln_f(self.blocks(x)))


def course_model(monkeypatch, **settings):
    """A model as the course has it when it is pickled: its classes live in __main__."""
    for cls in (Head, MultiHeadAttention, FeedForward, CourseBlock, GPTLanguageModel):
        monkeypatch.setattr(cls, "__module__", "__main__")
        monkeypatch.setattr(sys.modules["__main__"], cls.__name__, cls, raising=False)
    torch.manual_seed(5)
    return randomised(GPTLanguageModel(**settings).eval())
