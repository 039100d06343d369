"""One token per byte of UTF-8: 256 of them, and the end of text. Nothing to train."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np

from gpt.tokenizers.base import END_OF_TEXT, Tokenizer
from gpt.tokenizers.errors import TokenizerError
from gpt.tokenizers.utf8 import encode_utf8


class ByteTokenizer(Tokenizer):
    """Id i is byte i; id 256 ends a document."""

    type = "byte"
    special_tokens = {END_OF_TEXT: 256}
    vocab_size = 257
    token_bytes = [bytes([byte]) for byte in range(256)] + [END_OF_TEXT.encode()]

    @classmethod
    def train(cls, text: str | Iterable[str] = "") -> Self:
        """The one there is, whatever the text."""
        return cls()

    def _encode(self, text: str) -> np.ndarray:
        return np.frombuffer(encode_utf8(text), np.uint8).astype(self.dtype)

    def _cut(self, text: str) -> int:
        return len(text)

    def to_dict(self) -> dict:
        return {"type": self.type}

    @classmethod
    def from_dict(cls, state: dict) -> Self:
        if unknown := state.keys() - {"type"}:
            raise TokenizerError(f"a byte tokenizer has no {sorted(unknown)[0]!r}")
        return cls()

    def __repr__(self) -> str:
        return "ByteTokenizer()"
