"""A recipe: how a named corpus comes to be. One file in data/recipes/ each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data.corpus import Corpus, Options, from_text
from data.download import Download
from data.reading import read_text


@dataclass(frozen=True)
class Recipe:
    name: str
    about: str  # one line for people: size, what it is
    corpus: Callable[[Options], Corpus]


def book(name: str, about: str, file: Download) -> Recipe:
    """The recipe for one text file of the web."""

    def corpus(options: Options) -> Corpus:
        text = read_text(file.fetch(options.data_dir), options.newlines)
        return from_text(name, text, file.urls[0], options)

    return Recipe(name, about, corpus)
