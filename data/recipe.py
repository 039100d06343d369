"""A recipe: how a named corpus comes to be. One file in data/recipes/ each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.corpus import Corpus, Options, from_text
from data.download import Download
from data.errors import DataError
from data.reading import read_text


@dataclass(frozen=True)
class Recipe:
    """A corpus as text in memory, as files, or as both.

    corpus: raises DataError for one too large. files: verified paths, for `data.archives`; None for
    a corpus that is generated. n_files: how many there are, where Options.fraction takes some.
    """

    name: str
    about: str  # one line for people: size, what it is
    corpus: Callable[[Options], Corpus]
    files: Callable[[Options], list[Path]] | None = None
    n_files: int | None = None


def book(name: str, about: str, file: Download) -> Recipe:
    """The recipe for one text file of the web."""

    def corpus(options: Options) -> Corpus:
        text = read_text(file.fetch(options.data_dir), options.newlines)
        return from_text(name, text, file.urls[0], options)

    return Recipe(name, about, corpus, lambda options: [file.fetch(options.data_dir)])


def large(
    name: str, about: str, files: Callable[[Options], list[Path]], n_files: int | None = None
) -> Recipe:
    """The recipe for a corpus that is prepared as tokens on disk, and never a text in memory."""

    def corpus(options: Options) -> Corpus:
        raise DataError(
            f"{name} is too large to be held as a text. Prepare it once: python -m data.prepare "
            f"{name} --tokenizer gpt2; then train on the folder that this makes"
        )

    return Recipe(name, about, corpus, files, n_files)
