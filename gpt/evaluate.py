"""How good a model is, in numbers that compare: the same batches every time, beside yardsticks."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import tinytensor as tt
from data.batches import IGNORED

from .documents import loss_of, within
from .ngram import CountModel


def evaluate(model: Any, batches: Any, count: int, device: Any) -> float:
    """Mean loss in nats per token over batches 0 .. count - 1, without dropout or gradients."""
    return mean_loss(model, (batches.batch(i) for i in range(count)), device)


def mean_loss(model: Any, batches: Iterable[tuple[np.ndarray, ...]], device: Any) -> float:
    """Mean loss over all targets of some batches, see loss_of."""
    model.eval()
    total, targets = 0.0, 0
    with tt.no_grad():
        for batch in batches:
            if count := int(np.count_nonzero(batch[1] != IGNORED)):
                total += loss_of(model, batch, device).item() * count
                targets += count
    model.train()
    return total / targets if targets else math.nan


def evaluate_text(
    model: Any, tokens: np.ndarray, block_size: int, batch_size: int, device: Any,
    documents: np.ndarray | None = None,
) -> float:  # fmt: skip
    """Mean loss over a whole text in nats per token: each token once, given enough before it.

    A random window asks about its first tokens with nothing before them, which no model can answer
    well. Here windows overlap by half, and only what lies in the second half of one is counted, but
    for the first window: every token has block_size / 2 tokens before it, or all that there are.

    documents  as many: which document each token is of, where none is to see another
    """
    stride = max(1, block_size // 2)
    starts = [*range(0, len(tokens) - 1 - block_size, stride), len(tokens) - 1 - block_size]
    windows = np.stack([tokens[s : s + block_size + 1] for s in starts]).astype(np.int64)
    targets = windows[:, 1:].copy()  # (windows, T)
    ends = np.array([s + block_size for s in starts])
    new = np.diff(ends, prepend=ends[0] - block_size)  # how many targets of each window are its own
    targets[np.arange(block_size) < block_size - new[:, None]] = IGNORED  # counted before
    parts = [windows[:, :-1], targets]
    if documents is not None:
        ids = np.stack([documents[s : s + block_size + 1] for s in starts])
        parts = [windows[:, :-1], within(targets, ids), ids[:, :-1]]
    batches = (tuple(part[i : i + batch_size] for part in parts)
               for i in range(0, len(starts), batch_size))  # fmt: skip
    return mean_loss(model, batches, device)


def standing(
    losses: Mapping[str, float], counts: Sequence[CountModel], floor: float | None
) -> str:
    """The table a run ends with: count models, the model's losses, the floor; best last.

    All in nats and bits per character.
    """
    rows = [(f"{c.n}-gram", c.loss) for c in counts] + list(losses.items())
    rows.sort(key=lambda row: -row[1])
    if floor is not None:
        rows.append(("floor of the data", floor))
    lines = [f"{'':24} nats/char  bits/char"]
    lines += [f"{name:<24} {nats:9.4f}  {nats / math.log(2):9.4f}" for name, nats in rows]
    return "\n".join(lines)
