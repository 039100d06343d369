"""One token per word, sign or run of blanks; words outside the vocabulary are spelled in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Self

from gpt.tokenizers.base import END_OF_TEXT
from gpt.tokenizers.errors import TokenizerError
from gpt.tokenizers.patterns import count_pieces
from gpt.tokenizers.pieces import PieceTokenizer
from gpt.tokenizers.utf8 import encode_utf8


class WordTokenizer(PieceTokenizer):
    """Ids 0 .. 255 are bytes, then come the words, last the end of text.

    Nothing is lost: a word that is not in the vocabulary becomes its UTF-8 bytes. A word of one
    byte is that byte's token.
    """

    type = "word"
    pattern = "word"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._ids = {word: 256 + i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise TokenizerError("'words' must be distinct")
        self.special_tokens = {END_OF_TEXT: 256 + len(self.words)}

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int | None = None,
        min_frequency: int = 1,
        workers: int = 1,
    ) -> Self:
        """The words of a text, or of many, the most frequent first (ties: in code point order).

        vocab_size: how many tokens there may be at most, the 257 that are no words included.
        """
        if vocab_size is not None and vocab_size < 257:
            raise TokenizerError(f"vocab_size is {vocab_size}: it must be at least 257, for bytes")
        counts = count_pieces([text] if isinstance(text, str) else text, cls.pattern, workers)
        words = [w for w, n in counts.items() if n >= min_frequency and len(encode_utf8(w)) > 1]
        words.sort(key=lambda word: (-counts[word], word))
        return cls(words if vocab_size is None else words[: vocab_size - 257])

    @property
    def vocab_size(self) -> int:
        return 257 + len(self.words)

    @cached_property
    def token_bytes(self) -> list[bytes]:
        single = [bytes([byte]) for byte in range(256)]
        return [*single, *map(encode_utf8, self.words), END_OF_TEXT.encode()]

    def _encode_piece(self, piece: str) -> Sequence[int]:
        id = self._ids.get(piece)
        return list(encode_utf8(piece)) if id is None else [id]

    def to_dict(self) -> dict:
        return {"type": self.type, "words": self.words}

    @classmethod
    def from_dict(cls, state: dict) -> Self:
        words = state.get("words")
        if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
            raise TokenizerError("'words' must be a list of words")
        return cls(words)

    def __repr__(self) -> str:
        return f"WordTokenizer({len(self.words)} words)"
