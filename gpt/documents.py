"""Several documents in one row of tokens, none of which sees another.

A row is then worth what its documents are as sequences of their own: attention is causal and within
one document, positions count from its first token, and nothing asks for the next one's beginning.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

import tinytensor as tt
from data import Batches, DataError
from data.batches import IGNORED


class DocumentBatches(Batches):
    """Batches whose windows say which document each token is of."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        if self._tokens.documents is None:
            raise DataError(
                "--document-attention: it is not known where the documents of this text begin: "
                "make tokens of it with python -m data.prepare"
            )

    def batch(self, step: int) -> tuple[np.ndarray, ...]:  # type: ignore[override]
        """x, y and ids, int64 (B, T): tokens, what follows them, and their documents."""
        x, y = super().batch(step)
        ids = self._tokens.document_ids(self.starts(step), self.block_size + 1)
        return x, within(y, ids), ids[:, :-1]


def within(y: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Targets (B, T) without those that begin another document; ids (B, T + 1), one more than y."""
    return np.where(ids[:, 1:] == ids[:, :-1], y, IGNORED)


class Documents:
    """How a row of documents is read: what gpt.cache.Reading is to a row that goes on.

    ids  (B, T): which document each token is of, rising along a row
    """

    is_causal = False  # the mask says it
    fresh = True
    slot = None  # nothing is kept

    def __init__(self, ids: np.ndarray, device: Any):
        self.ids, self.device = ids, device

    @cached_property
    def positions(self) -> tt.Tensor:
        """(B, T): of each token in its document, the first that is here being 0."""
        t = np.arange(self.ids.shape[1])
        first = np.ones(self.ids.shape, bool)
        first[:, 1:] = self.ids[:, 1:] != self.ids[:, :-1]
        return tt.tensor(t - np.maximum.accumulate(np.where(first, t, 0), 1), device=self.device)

    @cached_property
    def mask(self) -> tt.Tensor:
        """(B, 1, T, T): True where a token, in its row, sees another, in its column."""
        same = np.tril(self.ids[:, :, None] == self.ids[:, None, :])
        return tt.tensor(same[:, None], device=self.device)

    def layer(self, i: int) -> Documents:
        return self

    def extend(self, k: tt.Tensor, v: tt.Tensor) -> tuple[tt.Tensor, tt.Tensor]:
        return k, v  # nothing was read before

    def last(self, x: tt.Tensor) -> tt.Tensor:
        return x[:, -1:]

    def finish(self) -> None:
        pass


def loss_of(model: Any, batch: tuple[Any, ...], device: Any) -> tt.Tensor:
    """Mean loss in nats per target of a batch: x, y, and ids where its documents are apart.

    x and y may be on the device already.
    """
    x, y, *ids = batch
    reading = (Documents(ids[0], device),) if ids else ()
    return model.loss(tt.as_tensor(x, device=device), tt.as_tensor(y, device=device), *reading)
