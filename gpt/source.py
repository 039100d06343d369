"""What a run learns from and is judged on: ids, and the tokenizer that made them.

Either a text, cut into tokens here, or a folder that `data.prepare` made, whose tokens are mapped,
or prompts with their completions, gpt/example_source.py.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import data
from data import Batches, Corpus, DataError
from data.prepared import MANIFEST, UNFINISHED, open_prepared
from data.shards import Tokens

from . import tokenizers
from .config import Config
from .documents import DocumentBatches
from .errors import UserError
from .evaluate import evaluate_text
from .ngram import CountModel, count_models
from .tokenizers import CharTokenizer, Tokenizer, TokenizerError

Ids = np.ndarray | Tokens


@dataclass(frozen=True)
class Source:
    """train, val: ids in one dimension. corpus: the text they are of; None if they are prepared.

    final: the beginning of val, which the last loss is measured on.
    """

    name: str
    tokenizer: Tokenizer
    train: Ids
    val: Ids
    hash: str  # of all ids: what a resumed run checks
    final: np.ndarray
    corpus: Corpus | None = None

    unit = "tokens"

    @property
    def sizes(self) -> tuple[int, int]:
        """How many there are to learn from, and how many held out."""
        return len(self.train), len(self.val)

    def batches(self, config: Config, part: str, stream: Any = "eval") -> Any:
        """Batches of "train" or "val"; `stream` as data.Batches has it."""
        tokens, what = (self.train, "training") if part == "train" else (self.val, "validation")
        kind = DocumentBatches if config.data.document_attention else Batches
        return kind(tokens, config.gpt.block_size, config.data.batch_size, config.run.seed,
                    stream=stream, name=f"the {what} text")  # fmt: skip

    def final_loss(self, model: Any, config: Config, device: Any) -> float:
        """Of the final text, each token once."""
        documents = None
        if config.data.document_attention and isinstance(self.val, Tokens):
            documents = self.val.document_ids(np.zeros(1, np.int64), len(self.final))[0]
        return evaluate_text(model, self.final, config.gpt.block_size, config.data.batch_size,
                             device, documents)  # fmt: skip

    def judged(self, config: Config) -> str:
        """What the final loss is of, in a sentence."""
        unit = "characters" if self.by_char else "tokens"
        return (f"Each of {len(self.final) - 1:,} held-out {unit} counts once, read with "
                f"{config.gpt.block_size // 2} or more before it.")  # fmt: skip

    @property
    def by_char(self) -> bool:
        """Whether a token is a character, and a loss per token one per character."""
        return isinstance(self.tokenizer, CharTokenizer)

    @cached_property
    def chars_per_token(self) -> float:
        """Of the final text."""
        return 1.0 if self.by_char else len(self.tokenizer.decode(self.final)) / len(self.final)

    @cached_property
    def bytes_per_token(self) -> float:
        """Of the final text, in UTF-8."""
        lengths = np.array([len(token) for token in self.tokenizer.token_bytes])
        return float(lengths[self.final].mean())

    @property
    def floor(self) -> float | None:
        """The entropy of the validation text in nats per character, where it is known."""
        return self.corpus.floor.val if self.corpus and self.corpus.floor else None

    def counts(self) -> list[CountModel]:
        """What counting characters reaches on the validation text; nothing without a text."""
        if self.corpus is None:
            return []
        chars = self.tokenizer if self.by_char else CharTokenizer.train(self.corpus.text)
        train, val = (chars.encode(part) for part in (self.corpus.train, self.corpus.val))
        return count_models(train, val, chars.vocab_size)

    @property
    def start(self) -> str:
        """What comes before a beginning, to write one: the first of these that is in the text."""
        if self.corpus is None:
            return ""  # the tokenizer knows what begins a text
        text = self.corpus.train
        return next(start for start in ("\n\n", "\n", text[0]) if start in text)


def load(config: Config, tokenizer: Tokenizer | None = None) -> Source:
    """What `--data` names as tokens; `tokenizer`: the one of the run that goes on.

    Raises DataError and TokenizerError.
    """
    folder = Path(config.data.data).expanduser()
    if folder.suffix == ".jsonl" and folder.is_file():
        from . import example_source

        return example_source.load(folder, config, tokenizer)
    if (folder / MANIFEST).exists() or (folder / UNFINISHED).exists():
        return prepared(folder, config, tokenizer)
    corpus = data.load(
        config.data.data,
        val_fraction=config.data.val_fraction,
        n_chars=config.data.n_chars or None,
        data_dir=config.data.data_dir or None,
    )
    if tokenizer is None:
        tokenizer = new_tokenizer(config, [corpus.train], [corpus.text])
    try:
        train, val = (tokenizer.encode(part) for part in (corpus.train, corpus.val))
    except TokenizerError as error:
        raise TokenizerError(f"--data {config.data.data}: {error}") from error
    sha256 = hashlib.sha256(np.ascontiguousarray(train).data)
    sha256.update(np.ascontiguousarray(val).data)
    return Source(corpus.name, tokenizer, train, val, sha256.hexdigest(),
                  val[: config.eval.final_chars], corpus)  # fmt: skip


def settled(config: Config, found: Source) -> Config:
    """The settings, now that the tokenizer is known: its vocabulary is the model's.

    A model that was there before keeps its own, which may have room for more.
    """
    if config.finetune.init_from:
        return config
    return replace(config, gpt=replace(config.gpt, vocab_size=found.tokenizer.vocab_size))


def new_tokenizer(config: Config, train: list[str], text: list[str]) -> Tokenizer:
    """The one that --tokenizer names, trained on `train`; characters are those of `text`."""
    name = config.data.tokenizer
    if name in ("auto", "char"):
        return CharTokenizer.train(text)
    size = config.gpt.vocab_size if name in ("word", "bpe") else None
    return tokenizers.get(name, lambda: train, size)


def prepared(folder: Path, config: Config, wanted: Tokenizer | None = None) -> Source:
    """A prepared corpus: its ids are read where batches fall, its tokenizer comes with it."""
    found = open_prepared(folder)
    tokenizer = tokenizers.from_dict(found.tokenizer)
    same_tokenizer(config.data.tokenizer, tokenizer, folder)
    if wanted is not None and wanted.hash != tokenizer.hash:
        raise TokenizerError(
            f"--data {folder}: was prepared with another tokenizer than the model's, of type "
            f"{wanted.type}: prepare it with --tokenizer and that one's file"
        )
    sides: dict[str, Any] = {side: found.manifest[side] for side in ("train", "val")}
    sha256 = hashlib.sha256(json.dumps(sides, sort_keys=True).encode() + tokenizer.hash.encode())
    return Source(folder.name, tokenizer, found.train, found.val, sha256.hexdigest(),
                  np.asarray(found.val[: config.eval.final_chars]))  # fmt: skip


def also(config: Config, tokenizer: Tokenizer) -> Source:
    """What --also-evaluate names, in the tokens of the model; its val is what it is judged on."""
    second = replace(config.data, data=config.eval.also_evaluate, n_chars=0, tokenizer="auto",
                     document_attention=False)  # fmt: skip
    try:
        return load(replace(config, data=second), tokenizer)
    except (DataError, TokenizerError) as error:
        why = str(error).removeprefix("--data ")
        raise UserError(f"--also-evaluate {why}") from error


def same_tokenizer(asked: str, found: Tokenizer, where: str | Path) -> None:
    """Refuse a `--tokenizer` that is not the one that ids or weights come with."""
    if asked in ("auto", found.type):
        return
    if asked in ("char", "word", "bpe") or tokenizers.get(asked).hash != found.hash:
        raise TokenizerError(
            f"--tokenizer {asked}: {where} comes with another, of type {found.type} and "
            f"{found.vocab_size:,} tokens; leave --tokenizer out to use that"
        )
