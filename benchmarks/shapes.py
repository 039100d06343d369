"""The models that steps are measured with, and one training step of each.

A step is written once, with the names that tinytensor and PyTorch share.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from contextlib import nullcontext
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
# for a GPU, the vocabulary padded as nanoGPT does, and the preset shakespeare-gpu's
ON_CUDA = {
    "gpt2-124M-1024": shape(1024, 768, 12, 12, 32, vocab=50304),
    "256/384/6/6/64": shape(256, 384, 6, 6, 64),
}
WARM_UP = 3  # calls before a capture
DTYPES = ("float32", "tf32", "bfloat16", "float16")


class How(NamedTuple):
    """Where and in which numbers a step is taken; PyTorch's own is eager unless `compile`."""

    device: str = "cpu"
    dtype: str = "float32"
    graph: bool = False  # captured once, then replayed
    compile: bool = False  # torch.compile

    @classmethod
    def asked(cls, args: argparse.Namespace) -> How:
        """From the flags that `add_flags` made; the device becomes the current one."""
        if args.device != "cpu":
            tt.cuda.set_device(args.device)
        graph = args.graph if args.graph is not None else args.device.startswith("cuda")
        return cls(args.device, args.dtype, graph)


ON_CPU = How()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """--device, --dtype, --graph."""
    add = parser.add_argument
    add("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    add("--dtype", choices=DTYPES, default="float32", help="of a GPU's products: half precision "
        "by autocast, weights stay float32 (default: float32)")  # fmt: skip
    add("--graph", action=argparse.BooleanOptionalAction, default=None,
        help="replay the step as one CUDA graph (default: on a GPU)")  # fmt: skip


def named(name: str) -> Shape:
    """Of the tables, block/width/heads/layers/batch[/symbols], or a preset's with 65 symbols."""
    if name in SHAPES | ON_CUDA:
        return (SHAPES | ON_CUDA)[name]
    if re.fullmatch(r"\d+(/\d+){4,5}", name):
        return shape(*map(int, name.split("/")))
    config = build(Config, read_preset(name), {})
    return Shape(replace(config.gpt, vocab_size=65), config.data.batch_size)


def parameter_groups(parameters: Any, weight_decay: float = 0.1) -> list[dict]:
    """Matrices decay, vectors do not."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def forward(
    model: Any, ids: tuple[np.ndarray, np.ndarray], lib: Any = tt, how: How = ON_CPU
) -> Callable[[], Any]:
    """A call that gives the loss, 0-d."""
    x, y = (lib.tensor(a, device=how.device) for a in ids)
    loss_of = model.loss if lib is tt else lambda x, y: model(x, y)[1]
    half = how.dtype in ("bfloat16", "float16")
    if how.device != "cpu":
        lib.set_float32_matmul_precision("high" if how.dtype == "tf32" else "highest")

    def loss() -> Any:
        with lib.autocast("cuda", dtype=getattr(lib, how.dtype)) if half else nullcontext():
            return loss_of(x, y)

    return loss


def training_step(
    model: Any, ids: tuple[np.ndarray, np.ndarray], lib: Any = tt, how: How = ON_CPU
) -> Callable[[], Any]:
    """A call that does one step: loss, gradients, clipping, AdamW. `lib` has PyTorch's names.

    It returns the loss, unread; as a graph, nothing.
    """
    on_cuda = how.device.startswith("cuda")
    parameters = list(model.parameters())
    own = {} if lib is tt or not on_cuda else {"fused": True, "capturable": how.graph}
    optimizer = lib.optim.AdamW(parameter_groups(parameters), lr=1e-4, **own)
    loss_of = forward(model, ids, lib, how)
    scaler = lib.amp.GradScaler("cuda") if how.dtype == "float16" else None

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of()
        if scaler is not None:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            lib.nn.utils.clip_grad_norm_(parameters, 1.0)
            scaler.step(optimizer)
            scaler.update()
            return loss.detach()
        loss.backward()
        if lib is tt:  # as gpt.train clips: in the optimizer's own pass
            norm = tt.nn.utils.get_total_norm([p.grad for p in parameters])
            optimizer.grad_scale = (norm + 1e-6).clamp(min=1)
        else:
            lib.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.detach()

    return Captured(step, lib.cuda) if how.graph and on_cuda else step


class Captured:
    """f, which is called WARM_UP times, as one CUDA graph: a call does what one of f does.

    It keeps f, and so the arrays that the graph reads and writes.
    """

    def __init__(self, f: Callable[[], object], cuda: Any):
        self.f, self.graph = f, cuda.CUDAGraph()
        for _ in range(WARM_UP):  # compiles kernels and makes what stays: moments
            f()
        cuda.synchronize()
        cuda.empty_cache()  # the graph has memory of its own, and those calls' is not for it
        with cuda.graph(self.graph):
            f()

    def __call__(self) -> None:
        self.graph.replay()


def our_step(of: Shape, how: How = ON_CPU) -> Callable[[], object]:
    tt.manual_seed(0)
    return training_step(GPT(of.config).to(how.device), of.ids(), how=how)
