"""Prompts and their completions, a JSON object a line: {"prompt": "2 + 2 =", "completion": " 4"}.

A row of a batch is one example and padding. The loss is of the completion alone: y is IGNORED
where what follows is prompt or padding. Causal attention never looks ahead, so what pads is unseen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from data.batches import IGNORED, Batches
from data.errors import DataError
from data.reading import read_text

KEYS = ("prompt", "completion")


class Example(NamedTuple):
    """One example in tokens, of which the first `n_prompt` are given."""

    ids: np.ndarray
    n_prompt: int


def read_examples(path: str | Path) -> list[tuple[int, str, str]]:
    """Line number, prompt and completion of each line; blank lines are none.

    Raises DataError, naming the line, for what is no object with two texts, and where the
    completion is empty.
    """
    found = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number:,}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: is not JSON: {error}") from None
        prompt, completion = map(record.get if isinstance(record, dict) else {}.get, KEYS)
        if not isinstance(prompt, str) or not isinstance(completion, str):
            raise DataError(f'{where}: is no object with the texts "prompt" and "completion"; what '
                            "has the key text is for python -m data.prepare")  # fmt: skip
        if not completion:
            raise DataError(f"{where}: its completion is empty, so there is nothing to learn")
        found.append((number, prompt, completion))
    return found


class ExampleBatches:
    """Batches of examples, each once before any comes again; `batch(step)` as of data.Batches.

    block_size  the columns of every batch: as many as the longest example needs
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        seed: int,
        stream: Literal["train", "eval"] = "train",
    ) -> None:
        self.examples = examples
        self.block_size = max(len(example.ids) for example in examples) - 1
        numbers = np.arange(len(examples) + 1)  # a window of one token begins at each example
        self._order = Batches(numbers, 1, batch_size, seed, stream=stream, epochs=True)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """x, y: int64 (B, T), where y[b, t] is the token that follows x[b, t], or IGNORED."""
        return self._rows(self._order.starts(step))

    def sweep(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All examples once, in order."""
        for first in range(0, len(self.examples), batch_size):
            yield self._rows(range(first, min(first + batch_size, len(self.examples))))

    def _rows(self, numbers: Any) -> tuple[np.ndarray, np.ndarray]:
        x = np.zeros((len(numbers), self.block_size), np.int64)
        y = np.full_like(x, IGNORED)
        for row, number in enumerate(numbers):
            ids, n_prompt = self.examples[number]
            x[row, : len(ids) - 1] = ids[:-1]
            asked = max(n_prompt, 1)  # without a prompt, the first token is given
            y[row, asked - 1 : len(ids) - 1] = ids[asked:]
        return x, y
