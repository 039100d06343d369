"""Tokenizers that split text into pieces by a pattern and encode each piece by itself."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import numpy as np

from gpt.tokenizers.base import Tokenizer
from gpt.tokenizers.parallel import parts
from gpt.tokenizers.patterns import last_cut, split

LONGEST = 64  # characters of a piece that is remembered
REMEMBERED = 1 << 18  # pieces, about 50 MB; then all are forgotten


class PieceTokenizer(Tokenizer):
    """`pattern` names one of patterns.PATTERNS. The ids of short pieces are remembered."""

    pattern: str

    @abstractmethod
    def _encode_piece(self, piece: str) -> Any:
        """The ids of one piece, as a sequence or an array."""

    def _encode(self, text: str) -> np.ndarray:
        ids = bytearray()
        for part in parts([text], last_cut):  # the pieces of a long text are more than its bytes
            ids += b"".join(map(self._known.__getitem__, split(part, self.pattern)))
        return np.frombuffer(ids, self.dtype)

    def _cut(self, text: str) -> int:
        return last_cut(text)

    @cached_property
    def _known(self) -> _Known:
        return _Known(self)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_known"}


class _Known(dict[str, bytes]):
    """The ids of each piece met so far, as the bytes of an array: a text's ids are these joined."""

    def __init__(self, tokenizer: PieceTokenizer) -> None:
        self.tokenizer = tokenizer

    def __missing__(self, piece: str) -> bytes:
        ids = np.asarray(self.tokenizer._encode_piece(piece), self.tokenizer.dtype).tobytes()
        if len(piece) <= LONGEST:
            if len(self) >= REMEMBERED:
                self.clear()
            self[piece] = ids
        return ids
