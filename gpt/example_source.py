"""What a run learns from where `--data` is a file of prompts and completions, data/examples.py."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import DataError
from data.batches import split
from data.examples import Example, ExampleBatches, read_examples

from .config import Config
from .evaluate import mean_loss
from .source import Source, new_tokenizer
from .tokenizers import Tokenizer, TokenizerError


@dataclass(frozen=True)
class ExampleSource(Source):
    """train, val: the tokens of all examples. final: those of val's completions.

    start: the first prompt that is held out.
    """

    examples: tuple[list[Example], list[Example]] = ([], [])
    start: str = ""

    unit = "examples"

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.examples[0]), len(self.examples[1])

    def batches(self, config: Config, part: str, stream: Any = "eval") -> Any:
        examples = self.examples[part == "val"]
        return ExampleBatches(examples, config.data.batch_size, config.run.seed, stream)

    def final_loss(self, model: Any, config: Config, device: Any) -> float:
        batches = self.batches(config, "val")
        return mean_loss(model, batches.sweep(config.data.batch_size), device)

    def judged(self, config: Config) -> str:
        return (f"Of {self.sizes[1]:,} held-out examples each token of the completion counts once, "
                "read with all that is before it.")  # fmt: skip


def load(path: Path, config: Config, tokenizer: Tokenizer | None) -> ExampleSource:
    """The examples of a file, the last of them held out. Raises DataError and TokenizerError."""
    if config.data.document_attention:
        raise DataError("--document-attention: an example of prompts and completions is a row of "
                        "its own, and sees no other: leave it out")  # fmt: skip
    lines = read_examples(path)
    texts = [prompt + completion for _, prompt, completion in lines]
    if config.data.n_chars:
        lengths = np.cumsum([len(text) for text in texts])
        lines = lines[: int(np.searchsorted(lengths, config.data.n_chars, "right"))]
    if len(lines) < 2:
        raise DataError(f"{path}: has {len(lines)} examples: at least 2 are needed, one to hold "
                        "out")  # fmt: skip
    if tokenizer is None:
        tokenizer = new_tokenizer(config, texts, texts)
    examples = [encode(tokenizer, path, *line, config.gpt.block_size) for line in lines]
    order = np.arange(len(examples))
    count = min(max(len(split(order, config.data.val_fraction)[0]), 1), len(examples) - 1)
    parts = examples[:count], examples[count:]
    train, val = (np.concatenate([example.ids for example in part]) for part in parts)
    final = np.concatenate([ids[n_prompt:] for ids, n_prompt in parts[1]])
    sha256 = hashlib.sha256()
    for ids, n_prompt in examples:
        sha256.update(np.asarray([n_prompt, *ids], np.int64).data)
    return ExampleSource(path.stem, tokenizer, train, val, sha256.hexdigest(), final,
                         examples=parts, start=lines[count][1])  # fmt: skip


def encode(
    tokenizer: Tokenizer, path: Path, line: int, prompt: str, completion: str, block_size: int
) -> Example:
    """An example in tokens; an end-of-text follows where the tokenizer has one.

    Prompt and completion are encoded apart, as they are when the model is asked.
    """
    where = f"{path} line {line:,}"
    try:
        begin, rest = tokenizer.encode(prompt), tokenizer.encode(completion)
    except TokenizerError as error:
        raise TokenizerError(f"{where}: {error}") from error
    end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    ids = np.concatenate([begin, rest, np.array(end, begin.dtype)])
    if len(ids) > block_size + 1:
        raise DataError(f"{where}: has {len(ids):,} tokens, and --block-size {block_size} holds "
                        f"{block_size + 1}: raise it, or shorten the example")  # fmt: skip
    if len(ids) < 2:
        raise DataError(f"{where}: has one token, and the first is never predicted: give a prompt")
    return Example(ids, len(begin))
