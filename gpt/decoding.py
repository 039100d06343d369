"""The loop that writes: texts continued side by side, token by token.

A model sees block_size tokens at most. When a text outgrows that, the oldest half of the window is
let go at once, and the cache is filled again with the other half: moving by one token would give
every key a new position, and so a full forward pass per token. `window_start` is the rule, a
function of the length alone, with a cache or without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import tinytensor as tt
from tinytensor.random import words

from .sampling import Sampler, stream


def window_start(length: int, block_size: int) -> int:
    """The first token that the model sees of a text of `length`: 0 until the window is full.

    Then it moves by half a block at a time: between block_size // 2 + 1 and block_size are seen.
    """
    hop = block_size - block_size // 2
    return max(0, -(-(length - block_size) // hop) * hop)


class Row:
    """One text: its tokens so far, and the random numbers that continue it."""

    def __init__(self, ids: Sequence[int], seed: int, sample: int):
        self.ids, self.seed, self.sample = [int(i) for i in ids], seed, sample
        self.generator = stream(seed, sample)
        self.start = 0  # of the window that the cache holds


class Writer:
    """Continues prompts (of any lengths, none empty), `samples` times each, in one batch.

        writer = Writer(model, [ids], Sampler(temperature=0.8), seed=1337)
        with evaluating(model):
            tokens, logits = writer.step()          # one more token for each of writer.rows

    Sample i of every prompt is drawn from stream i of the seed. The rows are prompt by prompt.
    room        how many tokens will be written at most: the cache need not hold more
    vocab_size  of the tokenizer: a model may have more logits, as padding, than it has tokens
    cached      False computes the whole window for every token: slower, the same tokens
    """

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], sampler: Sampler, seed: int,
        samples: Sequence[int] = (0,), room: int | None = None, vocab_size: int | None = None,
        cached: bool = True,
    ):  # fmt: skip
        self.model, self.sampler, self.vocab_size = model, sampler, vocab_size
        self.device = next(iter(model.parameters())).device
        self.rows = [Row(ids, seed, samples[0]) for ids in prompts]
        self.more = samples[1:]  # of each prompt, which is read once
        self.cache: Any = None
        if cached and hasattr(model, "cache"):
            longest = max(len(ids) for ids in prompts)
            self.cache = model.cache(len(prompts), None if room is None else longest + room)

    def step(self) -> tuple[list[int], np.ndarray]:
        """One more token for each row: the tokens, and the logits (rows, V) they came from."""
        with tt.no_grad():
            logits = self._logits() if self.cache is None else self._logits_from_cache()
        logits = logits[:, : self.vocab_size]
        if self.more:
            logits = self._multiply(logits)
        tokens = []
        for row, scores in zip(self.rows, logits):
            token = self.sampler.choose(scores, row.ids, row.generator)
            row.ids.append(token)
            tokens.append(token)
        return tokens, logits

    def resume(self, ids: Sequence[int]) -> None:
        """The one row goes on from another text; what that has in common with the old stays read.

        At least its last token is read again: the next one's logits come from there.
        """
        row, ids = self.rows[0], [int(i) for i in ids]
        if self.cache is not None:
            common = next((n for n, (a, b) in enumerate(zip(row.ids, ids)) if a != b),
                          min(len(row.ids), len(ids)))  # fmt: skip
            known = max(0, min(common, len(ids) - 1) - row.start)
            self.cache.length[0] = min(self.cache.length[0], known)
        row.ids = ids

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        self.rows = [self.rows[i] for i in rows]
        if self.cache is not None:
            self.cache.keep(rows)

    def _multiply(self, logits: np.ndarray) -> np.ndarray:
        """One row per sample, now that each prompt has been read."""
        copies = np.repeat(np.arange(len(self.rows)), 1 + len(self.more))
        samples = [(row.sample, *self.more) for row in self.rows]
        seeds = [row.seed for row in self.rows]
        ids = [row.ids for row in self.rows]
        self.keep(copies.tolist())
        numbers = [sample for row in samples for sample in row]
        self.rows = [Row(ids[i], seeds[i], sample) for i, sample in zip(copies, numbers)]
        self.more = ()
        return logits[copies]

    def _logits(self) -> np.ndarray:
        """(rows, V), row by row, from nothing but the tokens."""
        windows = [row.ids[window_start(len(row.ids), self.model.block_size) :]
                   for row in self.rows]  # fmt: skip
        return np.stack([self._read(self._tensor([ids]))[0] for ids in windows])

    def _logits_from_cache(self) -> np.ndarray:
        """(rows, V): what the cache lacks is read, which is one token but at a window's start."""
        cache = self.cache
        for b, row in enumerate(self.rows):
            start = window_start(len(row.ids), self.model.block_size)
            if start != row.start:
                row.start, cache.length[b] = start, 0
        unread = [row.ids[row.start + n :] for row, n in zip(self.rows, cache.length)]
        fresh = cache.length == 0
        logits: dict[int, np.ndarray] = {}
        for group in (np.flatnonzero(fresh), np.flatnonzero(~fresh)):
            if len(group):
                counts = [len(unread[b]) for b in group]
                T = max(counts)
                idx = self._tensor([unread[b] + [0] * (T - len(unread[b])) for b in group])
                logits |= zip(group, self._read(idx, cache=cache.reading(T, group, counts)))
        return np.stack([logits[b] for b in range(len(self.rows))])

    def _read(self, idx: tt.Tensor, **options: Any) -> np.ndarray:
        """(rows, V): the logits behind the last token."""
        return self.model(idx, **options)[0][:, 0].float().numpy(force=True)

    def _tensor(self, ids: list[list[int]]) -> tt.Tensor:
        return tt.tensor(np.array(ids), device=self.device)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without dropout; afterwards the model's mode is what it was."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def generate(
    model: Any, idx: tt.Tensor, max_new_tokens: int, *, temperature: float = 1.0,
    top_k: int | None = None, top_p: float = 1.0, min_p: float = 0.0,
    repetition_penalty: float = 1.0, generator: tt.Generator | None = None,
    use_cache: bool = True,
) -> tt.Tensor:  # fmt: skip
    """idx (B, T) followed by max_new_tokens more: (B, T + max_new_tokens), on idx's device.

    temperature, top_k, top_p, min_p, repetition_penalty   see gpt.sampling.Sampler
    generator   where the seed is drawn from (the default one); row b uses stream b of the seed
    use_cache   False computes the whole window for every token: slower, the same tokens
    """
    if idx.ndim != 2 or idx.shape[1] == 0:
        raise ValueError(f"generate needs at least one token to go on from, got {tuple(idx.shape)}")
    sampler = Sampler(temperature, top_k or 0, top_p, min_p, repetition_penalty)
    seed = int(words(np, (generator or tt.default_generator).reserve(1), 1)[0])
    writer = Writer(model, idx.tolist(), sampler, seed, room=max_new_tokens, cached=use_cache)
    for b, row in enumerate(writer.rows):
        row.generator = stream(seed, b)
    with evaluating(model):
        for _ in range(max_new_tokens):
            writer.step()
    return tt.tensor(np.array([row.ids for row in writer.rows]), device=idx.device)
