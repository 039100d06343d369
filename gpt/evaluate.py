"""How good a model is, in numbers that compare: the same batches every time, beside yardsticks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tinytensor as tt
from data import Batches

from .ngram import CountModel


def evaluate(model: Any, batches: Batches, count: int, device: Any) -> float:
    """Mean loss in nats per token over batches 0 .. count - 1, without dropout or gradients."""
    model.eval()
    total = 0.0
    with tt.no_grad():
        for i in range(count):
            x, y = (tt.tensor(ids, device=device) for ids in batches.batch(i))
            _, loss = model(x, y)
            total += loss.item()
    model.train()
    return total / count


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
