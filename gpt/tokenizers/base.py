"""What every tokenizer is and does. A kind adds its vocabulary, `_encode` and where text is cut.

Text goes in as Python holds it. UTF-8 has no lone surrogates; here they become the three bytes that
`surrogatepass` gives them, so that every string comes back as it was.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from gpt.errors import nearest
from gpt.tokenizers.errors import TokenizerError, UnknownCharacter
from gpt.tokenizers.parallel import PART, in_order, parts
from gpt.tokenizers.show import Drawing, columns
from gpt.tokenizers.utf8 import decode_utf8

END_OF_TEXT = "<|endoftext|>"
Special = Collection[str] | Literal["all"]


class Tokenizer(ABC):
    """Text to ids and back. A kind also has `train(text, ...) -> Tokenizer`.

    Objects are immutable and can be pickled: a spawned worker gets its own.
    """

    type: ClassVar[str]
    special_tokens: dict[str, int]  # by their text; ids that `encode` gives only where allowed to

    @property
    @abstractmethod
    def vocab_size(self) -> int: ...

    @property
    @abstractmethod
    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of each token: what bits per byte are counted with."""

    @abstractmethod
    def to_dict(self) -> dict:
        """Plain JSON values that `from_dict` makes the same tokenizer of."""

    @classmethod
    @abstractmethod
    def from_dict(cls, state: dict) -> Self: ...

    @abstractmethod
    def _encode(self, text: str) -> np.ndarray:
        """Ids of `dtype`, no text of it being special."""

    @abstractmethod
    def _cut(self, text: str) -> int:
        """The last place where `text` can be cut, whatever may follow it, and 0 if there is none:
        `_encode` of the whole is `_encode` of the two sides, one after the other."""

    @property
    def end_of_text(self) -> int | None:
        """The id that separates documents, `<|endoftext|>`; None where there is none."""
        return self.special_tokens.get(END_OF_TEXT)

    @cached_property
    def dtype(self) -> np.dtype:
        """Of the ids that `encode` returns: the smallest unsigned one that holds them all."""
        return np.min_scalar_type(self.vocab_size - 1)

    def encode(self, text: str, allowed_special: Special = (), workers: int = 1) -> np.ndarray:
        """(n,) ids of `dtype`.

        The text of a special token is text like any other, unless it is in `allowed_special`
        ("all" allows every one): then it becomes that token's id. With `workers`, a long text is
        encoded by so many processes; the ids are the same.
        """
        special = self._allowed(allowed_special)
        if workers > 1 and len(text) > PART:
            jobs = self._parts([text], special)
            try:
                return np.concatenate(self.encode_batch(jobs, workers, allowed_special))
            except UnknownCharacter:
                pass  # it is named below, with its place in the whole text
        return self._encode_special(text, special) if special else self._encode(text)

    def encode_stream(
        self, chunks: Iterable[str], allowed_special: Special = ()
    ) -> Iterator[np.ndarray]:
        """The ids of `encode("".join(chunks))`, array by array, wherever the chunks were cut.

        Holds about `PART` characters; more only of a single piece (a word) that is longer.
        """
        special = self._allowed(allowed_special)
        for part in self._parts(chunks, special):
            yield self._encode_special(part, special) if special else self._encode(part)

    def encode_batch(
        self, texts: Iterable[str], workers: int = 1, allowed_special: Special = ()
    ) -> list[np.ndarray]:
        """The ids of each text, encoded by so many processes."""
        if workers < 2:
            return [self.encode(text, allowed_special) for text in texts]
        jobs = ((text, allowed_special) for text in texts)
        return list(in_order(_work, jobs, workers, _start, (self,)))

    def decode(self, ids: Any, errors: str = "replace") -> str:
        """The text of an array or sequence of ids, or of one.

        errors: what becomes of bytes that are not UTF-8, as a model's are when it stops in the
        middle of a character: "replace" gives U+FFFD, "strict" raises, "ignore" drops them.
        Raises TokenizerError for an id out of range.
        """
        return decode_utf8(self._bytes(ids), errors)

    def _bytes(self, ids: Any) -> bytes:
        return b"".join(map(self.token_bytes.__getitem__, self._checked(ids).ravel().tolist()))

    def _checked(self, ids: Any) -> np.ndarray:
        ids = np.asarray(ids)
        if ids.size == 0:
            return ids.astype(self.dtype)
        if ids.dtype.kind not in "iu":
            raise TokenizerError(f"ids must be integers, not {ids.dtype}")
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            wrong = ids[(ids < 0) | (ids >= self.vocab_size)].flat[0]
            raise TokenizerError(
                f"id {wrong} is outside the vocabulary of {self.vocab_size}: "
                f"was the text encoded by another tokenizer?"
            )
        return ids

    def show(self, text: str) -> Drawing:
        """How `text` becomes ids, drawn for a reader: print it, or let a notebook do so."""
        ids = self.encode(text).tolist()
        return columns([(self.token_bytes[i], i) for i in ids])

    @property
    def hash(self) -> str:
        """sha256 of what `save` writes: equal hashes, equal ids."""
        return hashlib.sha256(self._json().encode()).hexdigest()

    def _json(self) -> str:
        return json.dumps(self.to_dict(), indent=1) + "\n"

    def save(self, path: str | Path) -> None:
        """Write JSON that `tokenizers.load` reads."""
        Path(path).write_text(self._json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        from gpt.tokenizers import load

        tokenizer = load(path)
        if not isinstance(tokenizer, cls):
            raise TokenizerError(f"{path} holds a {tokenizer.type} tokenizer, not a {cls.type} one")
        return tokenizer

    def _allowed(self, names: Special) -> dict[str, int]:
        if names == "all":
            return self.special_tokens
        for name in names:
            if name not in self.special_tokens:
                raise TokenizerError(
                    f"allowed_special names {name!r}, which is no special token of this tokenizer"
                    + (nearest(name, self.special_tokens) if self.special_tokens else "")
                )
        return {name: self.special_tokens[name] for name in names}

    def _encode_special(self, text: str, special: dict[str, int]) -> np.ndarray:
        pieces = _finder(special).split(text)  # ordinary, special, ordinary, special, ..., ordinary
        return np.concatenate([
            np.array([special[piece]], self.dtype) if i % 2 else self._encode(piece)
            for i, piece in enumerate(pieces)
        ])  # fmt: skip

    def _parts(self, chunks: Iterable[str], special: dict[str, int]) -> Iterator[str]:
        """The same text in parts whose ids do not depend on each other."""
        return parts(chunks, lambda text: self._cut_special(text, special))

    def _cut_special(self, text: str, special: dict[str, int]) -> int:
        """`_cut`, but in no special token, nor in one that may begin where `text` breaks off."""
        if not special:
            return self._cut(text)
        longest = max(map(len, special))
        cut = self._cut(text[: max(0, len(text) - longest + 1)])
        for found in _finder(special).finditer(text):
            if found.start() >= cut:
                break
            if found.end() > cut:
                return found.start()
        return cut


def _finder(special: Collection[str]) -> re.Pattern:
    """Finds special tokens, the longest where several begin."""
    return re.compile("(" + "|".join(map(re.escape, sorted(special, key=len, reverse=True))) + ")")


_tokenizer: Tokenizer  # a worker's own


def _start(tokenizer: Tokenizer) -> None:
    global _tokenizer
    _tokenizer = tokenizer


def _work(job: tuple[str, Special]) -> np.ndarray:
    return _tokenizer.encode(*job)
