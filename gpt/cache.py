"""The KV cache: keys and values of the tokens read so far, so that none is computed twice.

    cache = KVCache(model.config, rows=2)
    logits, _ = model(idx, cache=cache.reading(idx.shape[1]))       # the prompts, all at once
    logits, _ = model(token, cache=cache.reading(1))                # then token by token

Row b holds `length[b]` tokens, in slots 0 .. length[b] - 1 of every layer's (B, nh, slots, hs).
Rows may be of different lengths: what lies behind a row's end is hidden, and written over later.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

import tinytensor as tt

from .config import GPTConfig


class KVCache:
    """Room for `rows` sequences of `slots` tokens (block_size, unless given).

    Memory: 2 * n_layer * rows * slots * n_embd numbers, 75 MB a row for GPT-2 in float32.
    """

    def __init__(self, config: GPTConfig, rows: int, slots: int | None = None, *,
                 device: object = None, dtype: object = None):  # fmt: skip
        self.slots = min(slots or config.block_size, config.block_size)
        shape = (rows, config.n_head, self.slots, config.n_embd // config.n_head)
        self.layers = [
            tuple(tt.zeros(*shape, device=device, dtype=dtype) for _ in "kv")
            for _ in range(config.n_layer)
        ]  # (B, nh, slots, hs) of keys and of values
        self.length = np.zeros(rows, np.int64)

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows, in this order; one may come more than once."""
        self.length = self.length[list(rows)]
        self.layers = [tuple(t[list(rows)] for t in layer) for layer in self.layers]

    def reading(
        self, T: int, rows: Sequence[int] | None = None, counts: Sequence[int] | None = None
    ) -> Reading:
        """For one forward pass over (rows, T) new tokens; all rows, unless some are named, rising.

        counts  how many of the T tokens of each row are meant; the rest is padding on the right
        """
        return Reading(self, T, rows, counts)


class Reading:
    """One forward pass: where its tokens go, and which keys each of them may see."""

    def __init__(
        self, cache: KVCache, T: int, rows: Sequence[int] | None, counts: Sequence[int] | None
    ):
        self.cache, self.T = cache, T
        self.rows = np.arange(len(cache.length)) if rows is None else np.asarray(rows)
        self.start = cache.length[self.rows]  # (b,)
        self.counts = np.full(len(self.rows), T) if counts is None else np.asarray(counts)
        self.device = cache.layers[0][0].device
        first, end = int(self.start[0]), int(self.start.max()) + T
        self.even = bool((self.start == first).all())  # all rows write to the same slots
        self.fresh = end == T  # nothing was read before
        if end > cache.slots:
            raise ValueError(f"{end - T} tokens in the cache and {T} more do not fit {cache.slots}")
        every = slice(None)
        which = every if len(self.rows) == len(cache.length) else self.rows
        self.seen = (which, every, slice(end))
        # where the one new token of every row goes; None where it is not that simple
        self.slot = first if self.even and T == 1 and which is every else None
        if self.even:
            self.index: tuple = (which, every, slice(first, end))
        else:  # index arrays around a slice put their axes first: (b, T, nh, hs)
            self.index = (self.rows[:, None], every, self.start[:, None] + np.arange(T))

    @cached_property
    def positions(self) -> tt.Tensor:
        """(T,) where all rows are as long, else (b, T): the position of each token in its row."""
        own = self.start[:, None] + np.arange(self.T)
        return tt.tensor(own[0] if self.even else own, device=self.device)

    @cached_property
    def mask(self) -> tt.Tensor | None:
        """(b, 1, T, S), True where query t may see key s; None where all may, or is_causal does."""
        if self.fresh or (self.even and self.T == 1):
            return None
        own = self.start[:, None] + np.arange(self.T)  # (b, T)
        visible = np.arange(own.max() + 1) <= own[:, :, None]  # (b, T, S)
        return tt.tensor(visible[:, None], device=self.device)

    @property
    def is_causal(self) -> bool:
        return self.mask is None and self.T > 1

    def layer(self, i: int) -> LayerReading:
        return LayerReading(self, *self.cache.layers[i])

    def last(self, x: tt.Tensor) -> tt.Tensor:
        """(b, 1, C): of each row of x (b, T, C), the last token that is meant."""
        if (self.counts == self.T).all():
            return x[:, -1:]
        return x[np.arange(len(self.counts)), self.counts - 1].unsqueeze(1)

    def finish(self) -> None:
        """All layers have been read: the tokens count as cached."""
        self.cache.length[self.rows] = self.start + self.counts


class LayerReading:
    """One layer's part of a Reading: what attention sees of it."""

    def __init__(self, reading: Reading, keys: tt.Tensor, values: tt.Tensor):
        self.reading, self.keys, self.values = reading, keys, values
        self.mask, self.is_causal, self.slot = reading.mask, reading.is_causal, reading.slot

    def extend(self, k: tt.Tensor, v: tt.Tensor) -> tuple[tt.Tensor, tt.Tensor]:
        """Keep k and v (b, nh, T, hs); return the keys and values of all tokens up to them."""
        index = self.reading.index
        for kept, new in ((self.keys, k), (self.values, v)):
            kept[index] = new if self.reading.even else new.transpose(1, 2)
        if self.reading.fresh:
            return k, v
        seen = self.reading.seen
        return self.keys[seen], self.values[seen]
