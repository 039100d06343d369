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
from typing import Any, Literal, TypeVar

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
            windows = -(-np.maximum(sizes - 1, 0) // block_size)
            self._before = np.cumsum(windows)  # up to each document's end
            self.count = int(self._before[-1])
        else:
            raise DataError(f"documents is {documents!r}: it must be ignore, start or within")
        if not self.count:
            raise DataError(
                f"no document of {name} is followed by --block-size {block_size} tokens: use fewer"
                if documents == "start" else f"no document of {name} has two tokens"
            )

    def starts(self, step: int) -> np.ndarray:
        """(B,) int64: where this rank's windows of that step begin."""
        batch = self.batch_size * self.world_size
        if not self.epochs:
            draws = self._raw(step, 0, batch)[self.rank :: self.world_size]
            return self._place((draws % np.uint64(self.count)).astype(np.int64))  # bias: n / 2**64
        epoch, first = divmod(step * batch, self.count)  # Python's integers: no step is too large
        rows = np.arange(self.rank, batch, self.world_size)
        more, index = np.divmod(first + rows, self.count)
        shifts = np.zeros(len(index), np.int64)
        for later in np.unique(more).tolist():  # a batch may end one epoch and begin the next
            *keys, shift = self._raw(epoch + later, 1, ROUNDS + 1)
            mine = more == later
            index[mine] = permute(index[mine], self.count, np.array(keys))
            shifts[mine] = int(shift) % (self._last % self.block_size + 1)
        return self._place(index, shifts)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """x, y: int64 (B, T), where y[b, t] is the token that follows x[b, t]."""
        starts = self.starts(step)
        windows = self._tokens.windows(np.minimum(starts, self._last), self.block_size + 1)
        for row in np.flatnonzero(starts > self._last):  # a short last document: read too early
            windows[row] = np.roll(windows[row], self._last - starts[row])
        x, y = windows[:, :-1].copy(), windows[:, 1:].copy()
        if self.documents == "within":
            begins = self._tokens.known_documents()
            left = self._end(np.searchsorted(begins, starts, side="right") - 1) - starts
            y[np.arange(1, self.block_size + 1) >= left[:, None]] = IGNORED
        return x, y

    def document_ids(self, step: int) -> np.ndarray:
        """(B, T) int64: which document each x[b, t] is of; see `Tokens.document_ids`."""
        return self._tokens.document_ids(self.starts(step), self.block_size)

    def _raw(self, high: int, low: int, size: int) -> np.ndarray:
        # Philox counts up from the low word: steps set apart in the high one never meet.
        counter = np.array([0, 0, low, high], np.uint64)
        return np.random.Philox(key=self._key, counter=counter).random_raw(size)

    def _place(self, index: np.ndarray, shifts: Any = 0) -> np.ndarray:
        """(B,) int64: where the windows of these numbers begin."""
        if self.documents == "ignore":
            return shifts + index * self.block_size if self.epochs else index
        begins = self._tokens.known_documents()
        if self.documents == "start":
            return begins[index]
        document = np.searchsorted(self._before, index, side="right")
        begin = begins[document]
        spare = np.maximum(self._end(document) - begin - self.block_size - 1, 0)
        before = np.where(document, self._before[document - 1], 0)
        steps = self._before[document] - before - 1  # from its first window to its last
        return begin + spare * (index - before) // np.maximum(steps, 1)

    def _end(self, document: np.ndarray) -> np.ndarray:
        """(B,) int64: where these documents end."""
        begins = self._tokens.known_documents()
        after = begins[np.minimum(document + 1, len(begins) - 1)]
        return np.where(document + 1 < len(begins), after, len(self._tokens))


def as_tokens(tokens: np.ndarray | Tokens, name: str = "the text") -> Tokens:
    """An array as Tokens. Raises DataError unless it is 1-d and of integers."""
    if isinstance(tokens, Tokens):
        return tokens
    tokens = np.asanyarray(tokens)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise DataError(
            f"{name} must be a 1-d array of integers, one per token; "
            f"it has shape {tokens.shape} and dtype {tokens.dtype}"
        )
    return Tokens([tokens])


def sweep(
    tokens: np.ndarray | Tokens,
    block_size: int,
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All of the tokens, in order: each but the first is a target exactly once.

    Yields x, y as `Batches.batch` does. Windows lie end to end; the last one is moved back to end
    with the data, and what the one before it asked is IGNORED (-1) in its y. The last batch may
    have fewer rows. Ranks share windows as in `Batches`; every rank gets as many batches, the last
    of which may have no rows.

    Raises DataError where there are fewer than two tokens.
    """
    tokens = as_tokens(tokens)
    last = len(tokens) - 1 - (block_size := min(block_size, len(tokens) - 1))
    if block_size < 1:
        raise DataError(f"{len(tokens)} tokens leave nothing to predict: at least 2 are needed")
    count = -(-(len(tokens) - 1) // block_size)
    for first in range(0, count, batch_size * world_size):
        numbers = range(first, min(first + batch_size * world_size, count))[rank::world_size]
        starts = np.array(numbers, np.int64) * block_size
        windows = tokens.windows(np.minimum(starts, last), block_size + 1)
        x, y = windows[:, :-1].copy(), windows[:, 1:].copy()
        y[np.arange(block_size) < (starts - last)[:, None]] = IGNORED
        yield x, y
