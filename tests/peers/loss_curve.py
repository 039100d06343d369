"""The same training run twice, on tinytensor and on PyTorch: same weights, same batches.

    python tests/peers/loss_curve.py [--preset shakespeare-cpu] [--steps 200]

Prints both losses and the largest relative difference; exit code 1 if it reaches 1e-4.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from peers.torch_gpt import decay_groups, twin  # noqa: E402

import tinytensor as tt  # noqa: E402
from data import Batches  # noqa: E402
from gpt.config import Config, build, read_preset  # noqa: E402
from gpt.model import GPT  # noqa: E402
from gpt.schedule import learning_rate  # noqa: E402
from gpt.state import build_optimizer  # noqa: E402

LIMIT = 1e-4


def curves(config: Config, tokens: np.ndarray, steps: int) -> tuple[list[float], list[float]]:
    """The losses of `steps` steps: ours, PyTorch's."""
    optim = config.optim
    tt.manual_seed(config.run.seed)
    ours = GPT(config.gpt)
    theirs = twin(ours)
    our_optimizer = build_optimizer(ours, optim)
    their_optimizer = torch.optim.AdamW(
        decay_groups(theirs.parameters(), optim.weight_decay),
        lr=optim.lr, betas=(optim.beta1, optim.beta2),
    )  # fmt: skip
    batches = Batches(tokens, config.gpt.block_size, config.data.batch_size, config.run.seed)
    losses: tuple[list[float], list[float]] = ([], [])
    for step in range(steps):
        x, y = batches.batch(step)
        for optimizer in (our_optimizer, their_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, optim)
            optimizer.zero_grad()
        loss = ours.loss(tt.tensor(x), tt.tensor(y))
        loss.backward()
        if optim.grad_clip:
            tt.nn.utils.clip_grad_norm_(ours.parameters(), optim.grad_clip)
        our_optimizer.step()
        _, other = theirs(torch.tensor(x), torch.tensor(y))
        other.backward()
        if optim.grad_clip:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), optim.grad_clip)
        their_optimizer.step()
        losses[0].append(loss.item())
        losses[1].append(other.item())
    return losses


def worst(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference of two curves."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))


def main() -> int:
    import data
    from gpt.tokenizers import CharTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="shakespeare-cpu")
    parser.add_argument("--data", default="", help="a corpus or a file, if not the preset's")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    config = build(Config, read_preset(args.preset), {})
    corpus = data.load(args.data or config.data.data, val_fraction=config.data.val_fraction)
    tokenizer = CharTokenizer.train(corpus.text)
    config = replace(config, gpt=replace(config.gpt, vocab_size=tokenizer.vocab_size, dropout=0.0))
    ours, theirs = curves(config, tokenizer.encode(corpus.train), args.steps)
    for step in range(0, args.steps, max(args.steps // 10, 1)):
        print(f"step {step:>5}   ours {ours[step]:.6f}   torch {theirs[step]:.6f}")
    difference = worst(ours, theirs)
    print(f"last {args.steps - 1:>5}   ours {ours[-1]:.6f}   torch {theirs[-1]:.6f}")
    print(f"largest relative difference over {args.steps} steps: {difference:.1e} (limit {LIMIT})")
    return int(difference >= LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
