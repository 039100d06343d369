"""Ids to text as a model writes them: a character appears when its last byte has come."""

from __future__ import annotations

import codecs
from typing import Any


class StreamDecoder:
    """The text of ids that come one by one, never a part of a character."""

    def __init__(self, tokenizer: Any) -> None:
        self.bytes = tokenizer.token_bytes
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, id: int) -> str:
        return self.decoder.decode(self.bytes[id])

    def flush(self) -> str:
        return self.decoder.decode(b"", final=True)
