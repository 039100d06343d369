"""A story is a program; what it means depends on who tells it.

A story program takes a `Teller` and does two things with it: it writes text and it chooses. Each
teller is one reading of the *same* program, so generator, parser and entropy cannot disagree:

    Sampler   chooses at random                 -> a story and its probability
    Reader    chooses what a given text says    -> every derivation of that text (the parser)
    Surveyor  chooses everything, once          -> the exact entropy

Every choice is uniform, so a story's probability is 1 / ways, where `ways` is the product of the
numbers of options on its path: an exact integer.
"""

from collections.abc import Callable, Iterator, Sequence
from os.path import commonprefix
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Teller:
    """What a story program sees. Subclasses say how to decide, and what writing does."""

    def __init__(self) -> None:
        self.ways = 1

    def choose(self, options: Sequence[T]) -> T:
        """One of `options`, silently: for choices of what happens. May change what comes after."""
        self.ways *= len(options)
        return options[self.decide(range(len(options)))]

    def pick(self, words: Sequence[T]) -> T:
        """One of `words`, written at once. Whichever it is, equally many choices must follow."""
        self.ways *= len(words)
        word = words[self.decide(range(len(words)))]
        self.write(str(word))
        return word

    def say(self, text: str, *blanks: Sequence) -> list:
        """Write `text`, picking from the next of `blanks` at each "_"; returns the picked words.

        >>> fruit, n = t.say("Ivy ate an _. Then she ate _ more.", ("apple", "egg"), (2, 3))
        """
        first, *rest = text.split("_")
        self.write(first)
        picked = []
        for words, text in zip(blanks, rest, strict=True):
            picked.append(self.pick(words))
            self.write(text)
        return picked

    def decide(self, candidates: Sequence[int]) -> int:
        raise NotImplementedError

    def write(self, text: str) -> None:
        raise NotImplementedError


Program = Callable[[Teller], None]


class Sampler(Teller):
    """Chooses at random. Uses only `Random.random`, whose stream Python promises to keep."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self.random = rng.random
        self.parts: list[str] = []

    def decide(self, candidates: Sequence[int]) -> int:
        return candidates[int(self.random() * len(candidates))]

    def write(self, text: str) -> None:
        self.parts.append(text)

    @property
    def text(self) -> str:
        return "".join(self.parts)


class DeadEnd(Exception):
    """The text says something else than the program at this point."""


class Explorer(Teller):
    """Follows a given path of decisions; beyond it takes the first candidate, noting the others.

    A running program cannot be copied, so each path is run from the start: story programs are
    short, and candidates that the text rules out are never run.
    """

    def __init__(self, path: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.path = path
        self.depth = 0
        self.forks: list[tuple[int, ...]] = []
        self.done = False  # set when the program has run to its end

    def decide(self, candidates: Sequence[int]) -> int:
        if self.depth == len(self.path):
            self.forks += [(*self.path, other) for other in reversed(candidates[1:])]
            self.path += (candidates[0],)
        self.depth += 1
        return self.path[self.depth - 1]


E = TypeVar("E", bound=Explorer)


def explore(program: Program, explorer: Callable[[tuple[int, ...]], E]) -> Iterator[E]:
    """Run `program` along every path, depth first; yields each explorer, done or at a dead end."""
    agenda: list[tuple[int, ...]] = [()]
    while agenda:
        teller = explorer(agenda.pop())
        try:
            program(teller)
            teller.done = True
        except DeadEnd:
            pass
        agenda += teller.forks
        yield teller


class Reader(Explorer):
    """Accepts only what `text` says. `at` is how far this path has read it."""

    def __init__(self, text: str, path: tuple[int, ...] = ()) -> None:
        super().__init__(path)
        self.text = text
        self.at = 0
        self.wanted = ""  # where a dead end was: what the program would have written instead

    def write(self, text: str) -> None:
        if not self.text.startswith(text, self.at):
            self.wanted = text
            self.at += len(commonprefix((text, self.text[self.at : self.at + len(text)])))
            raise DeadEnd
        self.at += len(text)

    def pick(self, words: Sequence[T]) -> T:
        self.ways *= len(words)
        fitting = [k for k, w in enumerate(words) if self.text.startswith(str(w), self.at)]
        if fitting:
            word = words[self.decide(fitting)]
        else:  # let the word that agrees longest report where the text went wrong
            here = self.text[self.at : self.at + 40]
            word = max(words, key=lambda w: len(commonprefix((str(w), here))))
        self.write(str(word))
        return word


def read(program: Program, text: str) -> tuple[list[Reader], int, str]:
    """All ways in which `program` tells `text`; else how far it can be followed, and what was
    wanted there ("" is the end)."""
    told: list[Reader] = []
    reached, wanted = -1, ""
    for reader in explore(program, lambda path: Reader(text, path)):
        if reader.done and reader.at == len(text):
            told.append(reader)
        if reader.at > reached:
            reached, wanted = reader.at, reader.wanted
    return told, reached, wanted


class Surveyor(Explorer):
    """Takes every `choose`, but one word of each `pick`: by contract any other does the same."""

    def __init__(self, path: tuple[int, ...] = ()) -> None:
        super().__init__(path)
        self.plots = 1

    def choose(self, options: Sequence[T]) -> T:
        self.plots *= len(options)
        return super().choose(options)

    def pick(self, words: Sequence[T]) -> T:
        self.ways *= len(words)
        return words[0]

    def write(self, text: str) -> None:
        pass
