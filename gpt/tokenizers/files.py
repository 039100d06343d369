"""Vocabularies as published: GPT-2's encoder.json and vocab.bpe, or vocab.json and merges.txt.

OpenAI's names, and Hugging Face's for the same format: the vocabulary is JSON, ids by token; the
merges are lines of two tokens, under a `#version` line. Tokens are spelled in characters that have
a shape (alphabet.py).
"""

from __future__ import annotations

import json
from pathlib import Path

from data.download import Download
from data.errors import DataError
from gpt.tokenizers.alphabet import CHARS
from gpt.tokenizers.bpe import BPETokenizer, is_table, parse_ids, parse_merges
from gpt.tokenizers.errors import TokenizerError

FILES = ("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")

OPENAI = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
HUGGING_FACE = "https://huggingface.co/openai-community/gpt2/resolve/main/"
GPT2 = (
    Download(
        file="gpt2/encoder.json",
        urls=(OPENAI + "encoder.json", HUGGING_FACE + "vocab.json"),
        sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        n_bytes=1_042_301,
    ),
    Download(
        file="gpt2/vocab.bpe",
        urls=(OPENAI + "vocab.bpe", HUGGING_FACE + "merges.txt"),
        sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        n_bytes=456_318,
    ),
)


def gpt2(folder: str | Path | None = None, tiktoken: bool = True) -> BPETokenizer:
    """GPT-2's tokenizer: 50,257 tokens, the last `<|endoftext|>`.

    From `folder`, with either pair of files; else from the cache of downloads, which is filled if
    need be. Raises TokenizerError where the files are not to be had.
    """
    if folder is not None:
        return from_folder(folder, tiktoken=tiktoken)
    try:
        vocabulary, merges = (file.fetch() for file in GPT2)
    except DataError as error:
        raise TokenizerError(
            f"GPT-2's vocabulary: {error}. Or give the folder that has encoder.json and vocab.bpe "
            f"in place of the name gpt2"
        ) from None
    return from_files(vocabulary, merges, tiktoken=tiktoken)


def from_folder(folder: str | Path, pattern: str = "gpt2", tiktoken: bool = True) -> BPETokenizer:
    """The tokenizer of a folder with encoder.json and vocab.bpe, or vocab.json and merges.txt."""
    folder = Path(folder).expanduser()
    for vocabulary, merges in FILES:
        if (folder / vocabulary).exists() and (folder / merges).exists():
            return from_files(folder / vocabulary, folder / merges, pattern, tiktoken)
    raise TokenizerError(
        f"{folder} has neither encoder.json and vocab.bpe (GPT-2's) nor vocab.json and merges.txt "
        f"(Hugging Face's)"
    )


def from_files(
    vocabulary: Path, merges: Path, pattern: str = "gpt2", tiktoken: bool = True
) -> BPETokenizer:
    """Tokens that are no bytes and that no merge makes are special tokens."""
    try:
        ids = json.loads(vocabulary.read_text(encoding="utf-8"))
        lines = merges.read_text(encoding="utf-8").split("\n")
        lines = lines[lines[0].startswith("#version") :]
    except OSError as error:
        raise TokenizerError(f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise TokenizerError(f"{vocabulary} or {merges.name} is damaged: {error}") from None
    if not is_table(ids):
        raise TokenizerError(f"{vocabulary} is not an object of ids by token")
    try:
        pairs = parse_merges(line for line in lines if line)
    except TokenizerError as error:
        raise TokenizerError(f"{merges}: {error}") from None
    spelled = {line.replace(" ", "") for line in lines} | set(CHARS)
    special = {token: id for token, id in ids.items() if token not in spelled}
    ordinary = {token: id for token, id in ids.items() if token in spelled}
    try:
        return BPETokenizer(pairs, pattern, special, parse_ids(ordinary), tiktoken)
    except TokenizerError as error:
        raise TokenizerError(f"{vocabulary} and {merges.name} do not fit: {error}") from None
