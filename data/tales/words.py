"""Words that must agree with others: people with their pronouns, numbers with their nouns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Person:
    """A child, with the words that stand for it: f"{hero} took {hero.his} hat"."""

    name: str
    kind: str  # girl or boy
    he: str
    him: str
    his: str

    def __str__(self) -> str:
        return self.name

    @property
    def He(self) -> str:
        return self.he.capitalize()


def people(names: str, kind: str, he: str, him: str, his: str) -> tuple[Person, ...]:
    return tuple(Person(name, kind, he, him, his) for name in names.split())


NUMERALS = "no one two three four five six seven eight nine ten eleven twelve".split()


class Number(int):
    """A small number that is written as a word: f"{Number(2 + 1)}" is "three"."""

    def __str__(self) -> str:
        return NUMERALS[self]


def numbers(first: int, last: int) -> tuple[Number, ...]:
    return tuple(map(Number, range(first, last + 1)))


def count(n: int, things: str) -> str:
    """count(2, "figs") is "two figs", count(1, "figs") is "one fig"."""
    return f"{Number(n)} {things.removesuffix('s') if n == 1 else things}"


def but(words: Sequence[T], *taken: T) -> tuple[T, ...]:
    """The words that are not taken yet."""
    return tuple(word for word in words if word not in taken)
