"""Batches of windows: `batch(step)` is a pure function of (seed, step, rank, world size).

    Batches(tokens, 1024, 12, seed=1)                          random windows, for ever
    Batches(tokens, 1024, 12, seed=1, epochs=True)             each window once, then each once more
    Batches(tokens, 1024, 12, seed=1, documents="within")      windows that keep to one document
    for x, y in sweep(tokens, 1024, 12):                       all of it once, in order

Nothing is remembered between steps, so a resumed run asks for step N and gets the batch that the
uninterrupted run had. The draw is raw Philox output modulo the number of windows: unlike
`Generator.integers`, NumPy promises that stream never to change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeVar

import numpy as np

from data.errors import DataError
from data.permutation import ROUNDS, permute
from data.shards import Tokens

Text = TypeVar("Text", str, np.ndarray)
Documents = Literal["ignore", "start", "within"]
IGNORED = -1  # as a target: the loss leaves it out
STREAMS = ("train", "eval")  # the same seed draws different windows to learn from and to judge by


def split(tokens: Text, val_fraction: float) -> tuple[Text, Text]:
    """Cut a text or an array in two, in order: the last `val_fraction` is for validation."""
    if not 0 <= val_fraction <= 1:
        raise DataError(f"val_fraction is {val_fraction}: it must lie between 0 and 1, as in 0.1")
    n_train = int(len(tokens) * (1 - val_fraction) + 1e-6)  # 10 * (1 - 0.9) is 0.9999...: 1 token
    return tokens[:n_train], tokens[n_train:]


class Batches:
    """Windows of `block_size` tokens and their successors, drawn independently and uniformly.

    `tokens`: a 1-d array of any integer dtype, or `Tokens`; of a mapped file only what falls into
    windows is read. `documents` says which windows there are, T being block_size:

    - "ignore": every start 0 .. len(tokens) - T - 1, the last valid one included.
    - "start": the first token of each document that the data does not end within T tokens of;
      where the document is shorter, the next ones follow.
    - "within": a document of n tokens is cut into ceil((n - 1) / T) windows of its own, spread
      evenly from its first token to its last. One of n <= T tokens is a window that begins with
      it; what follows its end is not learned: y is -1 there. Counts take 8 bytes per document.

    epochs: without replacement, each window once before any comes again, in an order of the epoch's
    own. With documents="ignore" the windows are then those that lie end to end, (len - 1) // T of
    them, begun anew in each epoch within the first T tokens. Windows of an epoch: `count`.

    With `world_size` W, the W ranks together see the batch that one process with a batch size of
    W * batch_size would see: rank r gets rows r, r + W, r + 2W, ...

    Raises DataError where tokens are fewer than block_size + 1; `name` says whose they are.
    """

    def __init__(
        self,
        tokens: np.ndarray | Tokens,
        block_size: int,
        batch_size: int,
        seed: int = 1337,
        *,
        stream: Literal["train", "eval"] = "train",
        rank: int = 0,
        world_size: int = 1,
        documents: Documents = "ignore",
        epochs: bool = False,
        name: str = "the text",
    ) -> None:
        self.tokens = tokens if isinstance(tokens, Tokens) else np.asanyarray(tokens)
        self._tokens = as_tokens(self.tokens, name)
        for flag, value in {"block-size": block_size, "batch-size": batch_size}.items():
            if value < 1:
                raise DataError(f"--{flag} is {value}: it must be at least 1")
        if len(tokens) < block_size + 1:
            shorter = f"--block-size {len(tokens) - 1} or less, or " if len(tokens) > 1 else ""
            raise DataError(
                f"{name} has {len(tokens):,} tokens, but --block-size {block_size} needs at least "
                f"{block_size + 1:,} (a window and the token after it): use {shorter}more text"
            )
        if not 0 <= seed < 2**64:
            raise DataError(f"--seed is {seed}: it must lie between 0 and 2**64 - 1")
        if stream not in STREAMS:
            raise DataError(f"stream is {stream!r}: it must be one of {STREAMS}")
        if not 0 <= rank < world_size:
            raise DataError(f"rank is {rank}: it must lie in 0 .. {world_size - 1}")
        self.block_size, self.batch_size = block_size, batch_size
        self.rank, self.world_size = rank, world_size
        self.documents, self.epochs = documents, epochs
        self._key = np.array([seed, STREAMS.index(stream)], np.uint64)
        self._last = len(tokens) - block_size - 1  # where the last window begins
        if documents == "ignore":
            self.count = (len(tokens) - 1) // block_size if epochs else self._last + 1
        elif documents == "start":
            self.count = int(np.searchsorted(self._tokens.known_documents(), self._last, "right"))
        elif documents == "within":
            sizes = np.diff(self._tokens.known_documents(), append=len(tokens))
            self._before = np.cumsum(-(-(sizes - 1) // block_size))  # windows up to each document's end
            self.count = int(self._before[-1])
        else:
            raise DataError(f"documents is {documents!r}: it must be ignore, start or within")
        if not self.count:
            raise DataError(
                f"no document of {name} has {block_size + 1:,} tokens from its start to the end of "
                f"the data, as --block-size {block_size} needs: use a smaller one"
                if documents == "start" else f"no document of {name} has two tokens: nothing follows"
            )

    def starts(self, step: int) -> np.ndarray:
        """(B,) int64: where this rank's windows of that step begin."""
        batch = self.batch_size * self.world_size
        if not self.epochs:
            draws = self._raw(step, 0, batch)[self.rank :: self.world_size]
            return self._place((draws % np.uint64(self.count)).astype(np.int64))  # bias: n / 2**64
        epoch, index = divmod(step * batch, self.count)
        more, index = np.divmod(index + np.arange(self.rank, batch, self.world_size), self.count)
        shifts = np.empty(len(index), np.int64)
        for later in np.unique(more).tolist():  # a batch may end one epoch and begin the next
            *keys, shift = self._raw(epoch + later, 1, ROUNDS + 1)
            rows = more == later
            index[rows] = permute(index[rows], self.count, np.array(keys))
            shifts[rows] = int(shift) % (self._last % self.block_size + 1)
        return self._place(index, shifts)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """x, y: int64 (B, T), where y[b, t] is the token that follows x[b, t]."""
        starts = self.starts(step)
        windows = self._tokens.windows(np.minimum(starts, self._last), self.block_size + 1)
        if self.documents == "within":
            self._cut(windows, starts)
        return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])

    def document_ids(self, step: int) -> np.ndarray:
        """(B, T) int64: which document each x[b, t] is of; see `Tokens.document_ids`."""
        return self._tokens.document_ids(self.starts(step), self.block_size)

    def _raw(self, high: int, low: int, size: int) -> np.ndarray:
        # Philox counts up from the low word: steps set apart in the high one never meet.
        counter = np.array([0, 0, low, high], np.uint64)
        return np.random.Philox(key=self._key, counter=counter).random_raw(size)
