"""Ids to text as a model writes them: a character appears when its last byte has come."""

from __future__ import annotations

from typing import Any

from gpt.tokenizers.base import Tokenizer
from gpt.tokenizers.utf8 import complete, decode_utf8


class StreamDecoder:
    """The text of ids that come one by one or in groups, never a part of a character.

        decoder = StreamDecoder(tokenizer)
        for id in model:
            print(decoder.feed(id), end="", flush=True)
        print(decoder.flush())

    What `feed` and `flush` return, put together, is `tokenizer.decode` of all the ids.
    """

    def __init__(self, tokenizer: Tokenizer, errors: str = "replace") -> None:
        self.tokenizer, self.errors = tokenizer, errors
        self._held = b""  # an unfinished character

    def feed(self, ids: Any) -> str:
        """The text that an id, or several, add. Raises TokenizerError for one out of range."""
        data = self._held + self.tokenizer._bytes(ids)
        end = complete(data)
        self._held = data[end:]
        return decode_utf8(data[:end], self.errors)

    def flush(self) -> str:
        """What is left of a character that never ended; the decoder can be used again."""
        held, self._held = self._held, b""
        return decode_utf8(held, self.errors)
