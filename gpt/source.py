"""What a run learns from and is judged on: ids, and the tokenizer that made them."""

import hashlib
from dataclasses import dataclass

import numpy as np

import data
from data import Corpus

from .config import DataConfig
from .tokenizers import CharTokenizer, Tokenizer


@dataclass(frozen=True)
class Source:
    """train, val: 1-d arrays of ids. corpus: the text they were made of."""

    corpus: Corpus
    tokenizer: Tokenizer
    train: np.ndarray
    val: np.ndarray

    @property
    def name(self) -> str:
        return self.corpus.name

    @property
    def floor(self) -> float | None:
        """The entropy of the validation text in nats per character, where it is known."""
        return self.corpus.floor.val if self.corpus.floor else None

    @property
    def hash(self) -> str:
        """sha256 of the ids: what a resumed run checks."""
        sha256 = hashlib.sha256(np.ascontiguousarray(self.train).data)
        sha256.update(np.ascontiguousarray(self.val).data)
        return sha256.hexdigest()

    @property
    def start(self) -> str:
        """What comes before a beginning, to write one: the first of these that is in the text."""
        text = self.corpus.train
        return next(start for start in ("\n\n", "\n", text[0]) if start in text)


def load(config: DataConfig) -> Source:
    """What `--data` names, cut into tokens."""
    corpus = data.load(
        config.data,
        val_fraction=config.val_fraction,
        n_chars=config.n_chars or None,
        data_dir=config.data_dir or None,
    )
    tokenizer = CharTokenizer.train(corpus.text)
    return Source(corpus, tokenizer, tokenizer.encode(corpus.train), tokenizer.encode(corpus.val))
