"""`--init-from`: a run that begins with the weights, settings and tokenizer of another model.

Flags may then differ from it where weights do not: --dropout, and a shorter --block-size, which
leaves out the positions behind it. What is trained of it, --freeze and LoRA say: gpt/models.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import tokenizers
from .config import CommandLine, Config, GPTConfig
from .errors import ConfigError, UserError, is_mistake
from .options import own_settings
from .pretrained import Source, check_vocabulary, open_source
from .source import same_tokenizer


def start(asked: CommandLine) -> tuple[Config, Source | None]:
    """The settings of a new run, and what it begins with, not yet loaded."""
    config = asked.config()
    path, given = config.finetune.init_from, asked.given
    if not path:
        return config, None
    changes = {name: given[name] for name in ("dropout",) if name in given}
    try:
        found = open_source(path, **changes)
    except Exception as error:
        if not is_mistake(error):
            raise
        raise UserError("\n".join(f"--init-from {x}" for x in str(error).splitlines())) from error
    problems = []
    for name in own_settings(GPTConfig).keys() & given.keys():
        asked_for, has = given[name], getattr(found.config, name)
        if asked_for != has and not (name == "block_size" and asked_for < has):
            fix = "name no more" if name == "block_size" else "leave it out"
            problems.append(f"{asked.origin[name].format(asked_for)}: --init-from {path} has {has}"
                            f", and its weights are for that: {fix}")  # fmt: skip
    if problems:
        raise ConfigError(sorted(problems))
    found.tokenizer = tokenizer_of(found, config.data.tokenizer, path)
    crop(found, given.get("block_size", found.config.block_size))
    return replace(config, gpt=found.config), found


def tokenizer_of(found: Source, asked: str, path: str) -> Any:
    """The tokenizer that the weights were trained with; asked for, where they come without."""
    if found.tokenizer is not None:
        same_tokenizer(asked, found.tokenizer, path)
        return found.tokenizer
    if asked in ("auto", "char", "word", "bpe"):
        raise ConfigError([f"--tokenizer {asked}: --init-from {path} has no tokenizer with it: "
                           "name the one it was trained with: gpt2, byte, or a path"])  # fmt: skip
    tokenizer = tokenizers.get(asked)
    check_vocabulary(tokenizer, found.config, f"--tokenizer {asked}")
    return tokenizer


def crop(found: Source, block_size: int) -> None:
    """Only the first positions."""
    if block_size < found.config.block_size and "wpe.weight" in found.weights:
        weight = found.weights["wpe.weight"]
        found.weights["wpe.weight"] = weight._replace(array=weight.array[:block_size])
        found.config = replace(found.config, block_size=block_size)
