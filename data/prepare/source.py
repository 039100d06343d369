"""What is read: where it is, how large, whether it is a single document; a tokenizer made of it."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from pathlib import Path

import data
from data import archives
from data.archives import Report, Unit
from data.errors import DataError
from data.prepare.settings import Settings
from data.prepare.work import LEFT_OUT, Job, Split, parts, share
from data.recipes import RECIPES
from gpt import tokenizers
from gpt.tokenizers import Tokenizer, TokenizerError

TRAINED = ("char", "word", "bpe")
SAMPLE = 32 << 20  # bytes of text that a word or bpe tokenizer is trained on, at most


class Source:
    """A corpus by name, or any path that `data.archives` reads."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.content, self.skip_bad = name, settings.content, settings.skip_bad
        self.paths, fraction = locate(name, settings)
        self.size = sum(map(stored, self.paths))
        self.split = Split(self.content.val_fraction, fraction, self.content.seed)
        self.lengths: list[int] | None = None  # of a single document: characters of each unit

    def units(self, report: Report | None = None) -> Iterator[Unit]:
        for path in self.paths:
            yield from archives.units(path, skip_bad=self.skip_bad, report=report)

    def survey(self) -> None:
        """Find out whether this is a single document: only such a one is read to its end here."""
        lengths, documents = [], 0
        for unit in self.units():
            lengths.append(0)
            for document in archives.documents(unit):
                lengths[-1] += len(document.text)
                documents += not document.more
                if documents > 1:
                    return
        if not documents:
            raise DataError(f"{self.name}: there is no text in it")
        self.lengths = lengths

    def jobs(self, report: Report | None = None) -> Iterator[Job]:
        """The work to do, in order, the same every time."""
        if self.lengths is None:
            yield from (Job(unit, self.split) for unit in self.units(report))
            return
        used = int(sum(self.lengths) * self.content.fraction + 1e-6)
        train, at = split_point(used, self.content.val_fraction), 0
        for unit, length in zip(self.units(report), self.lengths):
            yield Job(unit, self.split, (train - at, used - at))
            at += length

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that was chosen, trained on this source if it is one to train.

        char reads everything: each character must be known. word and bpe read everything too, but
        keep only a sample, of the training side: the pieces of text with the smallest hashes (of
        text and seed), SAMPLE bytes in all, in the order of their hashes.
        """
        name = self.content.tokenizer
        texts = self._texts if name == "char" else self._sample
        try:
            pattern = self.content.pattern if name == "bpe" else None
            return tokenizers.get(name, texts, self.content.vocab_size or None, pattern)
        except TokenizerError as error:
            raise DataError(f"--tokenizer {name}: {error}") from None

    def _texts(self, *sides: str) -> Iterator[str]:
        for job in self.jobs():
            for part in parts(job, Report()):
                if part.side in sides if sides else part.side != LEFT_OUT:
                    yield part.text

    def _sample(self) -> Iterator[str]:
        kept: list[tuple[float, bytes]] = []  # a heap: the largest hash comes first
        size = 0
        for text in self._texts("train"):
            data = text.encode()
            heapq.heappush(kept, (-share(data, "sample", self.content.seed), data))
            size += len(data)
            while size > SAMPLE and len(kept) > 1:
                size -= len(heapq.heappop(kept)[1])
        while kept:
            yield heapq.heappop(kept)[1].decode()


def locate(name: str, settings: Settings) -> tuple[list[Path], float]:
    """Where a corpus's files are, downloaded if need be, and what share of them is to be used."""
    fraction = settings.content.fraction
    paths = data.files(name, data_dir=settings.data_dir or None, fraction=fraction)
    if not paths:
        raise DataError(
            f"{name} is generated, not read: train on it as it is, gpt.train --data {name}"
        )
    if name in RECIPES and (n_files := RECIPES[name].n_files) and fraction < 1:
        fraction = min(1.0, fraction * n_files / len(paths))  # the rest of them is left out already
    return paths, fraction


def split_point(n: int, val_fraction: float) -> int:
    """How many of n characters are for training, as `data.batches.split` has it."""
    return int(n * (1 - val_fraction) + 1e-6)


def stored(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    try:
        if not path.is_dir():
            return path.stat().st_size
        return sum((Path(folder) / file).stat().st_size
                   for folder, _, files in os.walk(path) for file in files)  # fmt: skip
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from None
