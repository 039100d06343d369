"""Byte-level byte-pair encoding, as in GPT-2 and GPT-4: any text, no unknown characters.

Text is split into pieces (patterns.py); a piece starts as its UTF-8 bytes, and of all merges that
apply the one learned first is done, the leftmost if there are several, until none applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import Any, Self

import numpy as np

from gpt.tokenizers.alphabet import BYTES, from_printable, to_printable
from gpt.tokenizers.base import END_OF_TEXT
from gpt.tokenizers.errors import TokenizerError
from gpt.tokenizers.fast import gpt2_encoding
from gpt.tokenizers.merges import learn_merges
from gpt.tokenizers.patterns import count_pieces, known_pattern, split
from gpt.tokenizers.pieces import PieceTokenizer
from gpt.tokenizers.show import Drawing, Step, draw_merges
from gpt.tokenizers.symbols import GONE, Symbols, pair_key
from gpt.tokenizers.utf8 import encode_utf8

LONG = 1 << 13  # bytes of a piece from which NumPy pays


class BPETokenizer(PieceTokenizer):
    """Merges, in the order in which they were learned, and the id of each token.

    merges: pairs of tokens. ids: of every token but the special ones; by default the 256 bytes in
    GPT-2's order, then what each merge makes. special_tokens: their ids; a list of them gets the
    ids that follow. tiktoken: encode GPT-2's vocabulary by tiktoken where that is installed (the
    ids are the same, sooner).

    Raises TokenizerError where a merge joins what none before it made, and where ids have gaps.
    """

    type = "bpe"

    def __init__(
        self,
        merges: Iterable[tuple[bytes, bytes]],
        pattern: str = "gpt2",
        special_tokens: Mapping[str, int] | Sequence[str] = (END_OF_TEXT,),
        ids: Mapping[bytes, int] | None = None,
        tiktoken: bool = True,
    ) -> None:
        self.merges, self.pattern, self.tiktoken = list(merges), known_pattern(pattern), tiktoken
        self.ids = ids_in_order(self.merges) if ids is None else dict(ids)
        if not isinstance(special_tokens, Mapping):
            special_tokens = {token: len(self.ids) + i for i, token in enumerate(special_tokens)}
        self.special_tokens = dict(special_tokens)
        self._check()
        pairs = [(self.ids[a], self.ids[b]) for a, b in self.merges]
        self._keys = [pair_key(*pair) for pair in pairs]
        self._rank = {key: rank for rank, key in enumerate(self._keys)}
        self._made = [self.ids[a + b] for a, b in self.merges]
        self._byte_ids = np.array([self.ids[bytes([byte])] for byte in range(256)])

    def _check(self) -> None:
        if "" in self.special_tokens:
            raise TokenizerError("a special token must have a text")
        known = {bytes([byte]) for byte in range(256)}
        for rank, (left, right) in enumerate(self.merges):
            for part in (left, right):
                if part not in known:
                    raise TokenizerError(f"merge {rank} joins {part!r}, which no merge before made")
            known.add(left + right)
        for token in known - self.ids.keys():
            raise TokenizerError(f"token {token!r} has no id: is this a byte-level vocabulary?")
        for token in self.ids.keys() - known:
            raise TokenizerError(f"token {token!r} is neither a byte nor made by a merge")
        ids = sorted([*self.ids.values(), *self.special_tokens.values()])
        for expected, id in enumerate(ids):
            if id != expected:
                raise TokenizerError(f"ids must be 0, 1, 2, ...: {min(id, expected)} is not one's")

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int = 8192,
        pattern: str = "gpt2",
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        min_frequency: int = 1,
        workers: int = 1,
    ) -> Self:
        """The merges of a text, or of many (no token spans two), counted by so many processes.

        vocab_size counts the 256 bytes and the special tokens too. There are fewer where no pair is
        left that occurs `min_frequency` times. merges.py says how ties are broken.
        """
        least = 256 + len(special_tokens)
        if vocab_size < least:
            raise TokenizerError(
                f"vocab_size is {vocab_size}: it must be at least {least}, "
                f"for 256 bytes and {len(special_tokens)} special tokens"
            )
        if min_frequency < 1:
            raise TokenizerError(f"min_frequency is {min_frequency}: it must be at least 1")
        texts = [text] if isinstance(text, str) else text
        words = count_pieces(texts, known_pattern(pattern), workers)
        merges = learn_merges(words, vocab_size - len(special_tokens), min_frequency)
        return cls(merges, pattern, special_tokens)

    @cached_property
    def _tiktoken(self) -> Any:
        return gpt2_encoding(self.ids) if self.tiktoken and self.pattern == "gpt2" else None

    @property
    def vocab_size(self) -> int:
        return len(self.ids) + len(self.special_tokens)

    @cached_property
    def token_bytes(self) -> list[bytes]:
        tokens = [b""] * self.vocab_size
        for token, id in self.ids.items():
            tokens[id] = token
        for text, id in self.special_tokens.items():
            tokens[id] = encode_utf8(text)
        return tokens

    def _encode(self, text: str) -> np.ndarray:
        if self._tiktoken:
            try:
                ids = self._tiktoken.encode_to_numpy(text, disallowed_special=())
                return ids.astype(self.dtype)
            except ValueError:  # a lone surrogate, or blanks by the million: its stack is limited
                pass
        return super()._encode(text)

    def _encode_piece(self, piece: str) -> Sequence[int] | np.ndarray:
        data = encode_utf8(piece)
        return self._merge_many(data) if len(data) >= LONG else self._merge(data)

    def _merge(self, data: bytes) -> list[int]:
        """One merge at a time, from a heap of (rank, place): n log n."""
        ids = self._byte_ids[np.frombuffer(data, np.uint8)].tolist()
        after, before = list(range(1, len(ids) + 1)), list(range(-1, len(ids) - 1))
        rank_of = self._rank.get
        heap: list[tuple[int, int]] = []
        for place, pair in enumerate(zip(ids, ids[1:])):
            if (rank := rank_of(pair_key(*pair))) is not None:
                heap.append((rank, place))
        heapify(heap)
        while heap:
            rank, left = heappop(heap)
            right = after[left]
            if right == len(ids) or rank_of(pair_key(ids[left], ids[right])) != rank:
                continue  # one of the two was merged meanwhile
            ids[left], ids[right] = self._made[rank], GONE
            after[left] = end = after[right]
            if end < len(ids):
                before[end] = left
                if (rank := rank_of(pair_key(ids[left], ids[end]))) is not None:
                    heappush(heap, (rank, left))
            if (start := before[left]) >= 0:
                if (rank := rank_of(pair_key(ids[start], ids[left]))) is not None:
                    heappush(heap, (rank, start))
        return [id for id in ids if id != GONE]

    def _merge_many(self, data: bytes) -> np.ndarray:
        """The same for long pieces: all places of a merge at once.

        A merge's places are all there when its turn comes, for what later ones make comes in no
        earlier merge. That fails where two merges of a file spell one token; then `_merge` it is.
        """
        if len(set(self._made)) < len(self._made):
            return np.array(self._merge(data))
        ids = self._byte_ids[np.frombuffer(data, np.uint8)]
        symbols = Symbols(ids, np.ones_like(ids))
        where: dict[int, np.ndarray] = {}
        heap: list[int] = []
        pairs = symbols.pairs()
        while True:
            for key, places in pairs.each(np.arange(len(pairs.keys))):
                if (rank := self._rank.get(key)) is not None:
                    where[rank] = places
                    heappush(heap, rank)
            if not heap:
                return symbols.ids[symbols.ids >= 0]
            rank = heappop(heap)
            key = self._keys[rank]
            pairs = symbols.merge(key, symbols.find(key, where.pop(rank)), self._made[rank])

    def show(self, text: str) -> Drawing:
        """The pieces of a text, and of each how its bytes merge, one step a line."""
        return draw_merges([list(self._steps(piece)) for piece in split(text, self.pattern)])

    def _steps(self, piece: str) -> Iterator[Step]:
        """What is there before each merge, and at last; the merge that is next."""
        parts = [bytes([byte]) for byte in encode_utf8(piece)]
        while True:
            ids = [self.ids[part] for part in parts]
            none = len(self.merges)
            ranks = [self._rank.get(pair_key(*pair), none) for pair in zip(ids, ids[1:])]
            rank = min(ranks, default=none)
            if rank == none:
                yield Step(parts, ids)
                return
            at = ranks.index(rank)
            yield Step(parts, ids, at, rank, self._made[rank])
            parts = [*parts[:at], parts[at] + parts[at + 1], *parts[at + 2 :]]

    def to_dict(self) -> dict:
        ids = None if self.ids == ids_in_order(self.merges) else self.ids
        return {
            "type": self.type,
            "pattern": self.pattern,
            "special_tokens": self.special_tokens,
            "merges": [f"{to_printable(a)} {to_printable(b)}" for a, b in self.merges],
            "ids": ids and {to_printable(token): id for token, id in ids.items()},
        }

    @classmethod
    def from_dict(cls, state: dict) -> Self:
        pattern, special, merges, ids = map(
            state.get, ("pattern", "special_tokens", "merges", "ids")
        )
        if not isinstance(pattern, str):
            raise TokenizerError("'pattern' must be the name of one")
        if special is None or not is_table(special):
            raise TokenizerError("'special_tokens' must be an object of ids by token")
        if not (isinstance(merges, list) and all(isinstance(merge, str) for merge in merges)):
            raise TokenizerError("'merges' must be a list of texts, each two tokens and a space")
        if ids is not None and not is_table(ids):
            raise TokenizerError("'ids' must be null or an object of ids by token")
        return cls(parse_merges(merges), pattern, special, ids and parse_ids(ids))

    def __getstate__(self) -> dict:
        return {key: value for key, value in super().__getstate__().items() if key != "_tiktoken"}

    def __repr__(self) -> str:
        return f"BPETokenizer({len(self.merges)} merges, pattern {self.pattern!r})"


def ids_in_order(merges: Iterable[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """GPT-2's order: the bytes, then what each merge makes, where it is new."""
    ids = {bytes([byte]): id for id, byte in enumerate(BYTES)}
    for left, right in merges:
        ids.setdefault(left + right, len(ids))
    return ids


def is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(type(id) is int for id in value.values())


def parse_merges(lines: Iterable[str]) -> list[tuple[bytes, bytes]]:
    """Pairs of tokens, from the lines of a vocab.bpe or merges.txt."""
    merges = []
    for line in lines:
        try:
            left, right = map(from_printable, line.split(" "))
        except (ValueError, KeyError):
            raise TokenizerError(
                f"merge {line!r} is not two byte-level tokens with a space between"
            ) from None
        merges.append((left, right))
    return merges


def parse_ids(ids: Mapping[str, int]) -> dict[bytes, int]:
    try:
        return {from_printable(token): id for token, id in ids.items()}
    except KeyError as error:
        raise TokenizerError(f"character {error} stands for no byte in byte-level tokens") from None
