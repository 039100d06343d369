"""One token per character (Unicode code point), ids in code point order, as nanoGPT does."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np

from gpt.tokenizers.base import Tokenizer
from gpt.tokenizers.errors import TokenizerError, UnknownCharacter


def code_points(text: str) -> np.ndarray:
    """(len(text),) uint32. Lone surrogates, which no UTF-8 file holds, pass through unharmed."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


class CharTokenizer(Tokenizer):
    """A vocabulary of distinct characters; id i is the i-th in code point order.

    unk: None, and an unknown character raises UnknownCharacter; or a character, added to the
    vocabulary if need be, that stands for every unknown one ("\\ufffd" is Unicode's own).
    There is no end-of-text token: every id is a character.
    """

    type = "char"
    special_tokens: dict[str, int] = {}

    def __init__(self, chars: str, unk: str | None = None) -> None:
        if unk is not None and len(unk) != 1:
            raise TokenizerError(f"unk is {unk!r}: it must be one character, such as '\\ufffd'")
        self.unk = unk
        self._codes = np.unique(code_points(chars + (unk or "")))
        if not len(self._codes):
            raise TokenizerError("a vocabulary needs at least one character: the text is empty")

    @classmethod
    def train(cls, text: str | Iterable[str], unk: str | None = None) -> CharTokenizer:
        """The vocabulary of a text, or of many: the distinct characters."""
        texts = [text] if isinstance(text, str) else text
        return cls("".join(set().union(*texts)), unk)

    @property
    def vocab_size(self) -> int:
        return len(self._codes)

    @property
    def chars(self) -> list[str]:
        """The character of each id."""
        return [chr(code) for code in self._codes.tolist()]

    @property
    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of each token."""
        return [char.encode("utf-8", "surrogatepass") for char in self.chars]

    @cached_property
    def _ids(self) -> np.ndarray:
        """The id of every code point up to one past the vocabulary's last; -1 where unknown."""
        ids = np.full(int(self._codes[-1]) + 2, -1, np.int32)
        ids[self._codes] = np.arange(self.vocab_size)
        return ids

    def _encode(self, text: str) -> np.ndarray:
        """(len(text),) ids. Raises UnknownCharacter unless `unk` was chosen."""
        codes = code_points(text)
        ids = self._ids[np.minimum(codes, len(self._ids) - 1)]
        if ids.size and ids.min() < 0:
            if self.unk is None:
                raise self._unknown(text, int(np.argmin(ids)))
            ids[ids < 0] = self._ids[ord(self.unk)]
        return ids.astype(self.dtype)

    def _cut(self, text: str) -> int:
        return len(text)

    def decode(self, ids: Any, errors: str = "replace") -> str:
        """The text of an array or sequence of ids; `errors` is for others: all characters are
        whole. Raises TokenizerError for an id out of range."""
        return self._codes[self._checked(ids)].tobytes().decode("utf-32-le", "surrogatepass")

    def to_dict(self) -> dict:
        # One string per character: in a single one, JSON would fuse neighbouring surrogates.
        return {"type": self.type, "unk": self.unk, "chars": self.chars}

    @classmethod
    def from_dict(cls, state: dict) -> CharTokenizer:
        chars, unk = state.get("chars"), state.get("unk")
        if not (isinstance(chars, list) and all(isinstance(c, str) and len(c) == 1 for c in chars)):
            raise TokenizerError("'chars' must be a list of single characters")
        if unk is not None and not isinstance(unk, str):
            raise TokenizerError("'unk' must be null or one character")
        tokenizer = cls("".join(chars), unk)
        if tokenizer.chars != chars:
            raise TokenizerError("'chars' must be distinct and in code point order")
        return tokenizer

    def __repr__(self) -> str:
        unk = f", unk={self.unk!r}" if self.unk is not None else ""
        return f"CharTokenizer({self.vocab_size} characters{unk})"

    def _unknown(self, text: str, position: int) -> UnknownCharacter:
        char = text[position]
        others = len(set(text) - set(self.chars)) - 1
        line = text.count("\n", 0, position) + 1
        column = position - text.rfind("\n", 0, position)
        return UnknownCharacter(
            f"character {char!r} ({unicodedata.name(char, 'unnamed')}, U+{ord(char):04X}) at "
            f"position {position:,} (line {line:,}, column {column:,}) is not among the "
            f"{self.vocab_size} characters of the vocabulary"
            + (f", nor are {others} others of this text" if others else "")
            + f": remove it, or train with a text that has it. Known: {''.join(self.chars)!r}",
            char,
            position,
        )
