"""Tokenizers: text to ids and back. One file per kind, one small protocol for all.

A `Tokenizer` has `type`, `vocab_size`, `token_bytes`, `dtype` (the smallest unsigned), `hash`,
`end_of_text` (an id or None), `special_tokens`, `encode(text, allowed_special=(), workers=1)`,
`encode_stream(chunks)`, `encode_batch(texts, workers)`, `decode(ids, errors="replace")`,
`show(text)`, `to_dict`, `from_dict`, `save` and `load`; a kind also has `train(text, ...)`.
`StreamDecoder` turns ids to text as a model writes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gpt.errors import nearest
from gpt.tokenizers.base import END_OF_TEXT, Tokenizer
from gpt.tokenizers.bpe import BPETokenizer
from gpt.tokenizers.byte import ByteTokenizer
from gpt.tokenizers.char import CharTokenizer
from gpt.tokenizers.errors import TokenizerError, UnknownCharacter
from gpt.tokenizers.files import from_folder, gpt2
from gpt.tokenizers.stream import StreamDecoder
from gpt.tokenizers.word import WordTokenizer

KINDS: tuple[type[Tokenizer], ...] = (CharTokenizer, WordTokenizer, ByteTokenizer, BPETokenizer)
TYPES: dict[str, Any] = {kind.type: kind for kind in KINDS}
NAMES = ("char", "word", "byte", "bpe", "gpt2")


def get(
    name: str | Path,
    train_on: Callable[[], Iterable[str]] | None = None,
    vocab_size: int | None = None,
    pattern: str | None = None,
) -> Tokenizer:
    """The tokenizer of a name (char, word, byte, bpe, gpt2) or of a path.

    A path is a JSON file that `save` wrote, or a folder with GPT-2's encoder.json and vocab.bpe, or
    with Hugging Face's vocab.json and merges.txt. `char`, `word` and `bpe` are trained, on what
    `train_on()` yields; word and bpe to `vocab_size` tokens, bpe with a split `pattern`: gpt2 (by
    default) or gpt4.

    Raises TokenizerError for a name or path that is none, where text to train on is lacking, and
    for a size or pattern given to a kind that has none to choose.
    """
    for what, value, of in [("vocab_size", vocab_size, ("word", "bpe")),
                            ("pattern", pattern, ("bpe",))]:  # fmt: skip
        if value is not None and name not in of:
            raise TokenizerError(f"{what} is for {' and '.join(of)}; {name} has none to choose")
    if name == "byte":
        return ByteTokenizer()
    if name == "gpt2":
        return gpt2()
    if name not in NAMES:
        path = Path(name).expanduser()
        if path.is_dir():
            return from_folder(path)
        if path.exists():
            return load(path)
        raise TokenizerError(f"{name} is no tokenizer, file or folder{nearest(str(name), NAMES)}")
    if train_on is None:
        raise TokenizerError(f"the {name} tokenizer is trained, and there is no text to train on")
    if name == "char":
        return CharTokenizer.train(train_on())
    given = {"vocab_size": vocab_size, "pattern": pattern}
    chosen = {key: value for key, value in given.items() if value is not None}
    return TYPES[str(name)].train(train_on(), **chosen)


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
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is not JSON ({error}): is it a tokenizer's file?") from None
    try:
        return from_dict(state)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None
