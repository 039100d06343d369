"""Batches of random windows: `batch(step)` is a pure function of (seed, step, rank, world size).

Nothing is remembered between steps, so a resumed run asks for step N and gets the batch that the
uninterrupted run had. The draw is raw Philox output modulo the number of windows: unlike
`Generator.integers`, NumPy promises that stream never to change.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np

from data.errors import DataError

Text = TypeVar("Text", str, np.ndarray)
STREAMS = ("train", "eval")  # the same seed draws different windows to learn from and to judge by


def split(tokens: Text, val_fraction: float) -> tuple[Text, Text]:
    """Cut a text or an array in two, in order: the last `val_fraction` is for validation."""
    if not 0 <= val_fraction <= 1:
        raise DataError(f"val_fraction is {val_fraction}: it must lie between 0 and 1, as in 0.1")
    n_train = int(len(tokens) * (1 - val_fraction) + 1e-6)  # 10 * (1 - 0.9) is 0.9999...: 1 token
    return tokens[:n_train], tokens[n_train:]


class Batches:
    """Windows of `block_size` tokens and their successors, drawn independently and uniformly.

    Every start 0 .. len(tokens) - block_size - 1 is equally likely, the last valid one included.
    `tokens` is a 1-d array of any integer dtype; a np.memmap is read only where windows fall.

    With `world_size` W, the W ranks together see the batch that one process with a batch size of
    W * batch_size would see: rank r gets rows r, r + W, r + 2W, ...

    Raises DataError where tokens are fewer than block_size + 1; `name` says whose they are.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        block_size: int,
        batch_size: int,
        seed: int = 1337,
        *,
        stream: Literal["train", "eval"] = "train",
        rank: int = 0,
        world_size: int = 1,
        name: str = "the text",
    ) -> None:
        tokens = np.asanyarray(tokens)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise DataError(
                f"{name} must be a 1-d array of integers, one per token; "
                f"it has shape {tokens.shape} and dtype {tokens.dtype}"
            )
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
        self.tokens, self.block_size, self.batch_size = tokens, block_size, batch_size
        self.rank, self.world_size = rank, world_size
        self._key = np.array([seed, STREAMS.index(stream)], np.uint64)
        self._windows = np.lib.stride_tricks.sliding_window_view(tokens, block_size + 1)

    def starts(self, step: int) -> np.ndarray:
        """(B,) int64: where this rank's windows of that step begin."""
        # Philox counts up from the low word: steps set apart in the high one never meet.
        philox = np.random.Philox(key=self._key, counter=np.array([0, 0, 0, step], np.uint64))
        draws = philox.random_raw(self.batch_size * self.world_size)[self.rank :: self.world_size]
        return (draws % np.uint64(len(self._windows))).astype(np.int64)  # bias: len / 2**64

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """x, y: int64 (B, T), where y[b, t] is the token that follows x[b, t]."""
        windows = self._windows[self.starts(step)].astype(np.int64)  # (B, T + 1)
        return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])
