"""Tokenizers: text to ids and back. One file per kind, one small protocol for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gpt.tokenizers.char import CharTokenizer
from gpt.tokenizers.errors import TokenizerError, UnknownCharacter

__all__ = ["CharTokenizer", "Tokenizer", "TokenizerError", "UnknownCharacter", "from_dict", "load"]


class Tokenizer(Protocol):
    """What the trainer, the checkpoint and the generator ask of a tokenizer.

    A class also has `train(text, ...) -> Tokenizer` and `from_dict(state) -> Tokenizer`.
    """

    type: str

    @property
    def vocab_size(self) -> int: ...

    @property
    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of each token: what bits per byte are counted with."""
        ...

    @property
    def hash(self) -> str:
        """sha256 of what `save` writes: two tokenizers of one hash give the same ids."""
        ...

    def encode(self, text: str) -> np.ndarray: ...

    def decode(self, ids) -> str: ...

    def to_dict(self) -> dict: ...

    def save(self, path: str | Path) -> None: ...


TYPES = {kind.type: kind for kind in (CharTokenizer,)}


def from_dict(state: Any) -> Tokenizer:
    """The tokenizer, of whichever kind, whose `to_dict` this was. Raises TokenizerError if none."""
    kind = state.get("type") if isinstance(state, dict) else None
    if not isinstance(kind, str) or kind not in TYPES:
        raise TokenizerError(f"tokenizer type {kind!r} is unknown; there are {', '.join(TYPES)}")
    return TYPES[kind].from_dict(state)


def load(path: str | Path) -> Tokenizer:
    """The tokenizer that `save` wrote, of whichever kind. Raises TokenizerError if it is none."""
    try:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise TokenizerError(f"{path} is not JSON ({error}): is it a tokenizer's file?") from None
    try:
        return from_dict(state)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None
