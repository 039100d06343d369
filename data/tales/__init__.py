"""Tales: endless small stories from a grammar of our own, whose exact entropy is known.

    tales = generate(1_000_000, seed=0)     # whole stories, each followed by a blank line
    tales.floor                             # nats per character: no model can do better on it
    parse(story)                            # every derivation: exactly one for a generated story
    check(text)                             # how much of a model's text the grammar accepts

A model that has learned the grammar reaches the floor; one that counts n-grams cannot, for what a
story ends with (a name, a colour, how many apples are left) was decided long before. The grammar is
in `stories`, its words are in `words`, and what can be done with it is in `teller`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import fsum, log, nan
from random import Random

from data.tales.stories import story
from data.tales.teller import Sampler, Surveyor, explore, read

__all__ = ["BadStory", "Derivation", "Report", "Tales", "check", "entropy", "floor", "generate",
           "parse", "tell"]  # fmt: skip

END = "\n\n"  # ends every story and belongs to it


@dataclass(frozen=True)
class Tales:
    """Generated text and its log-probability in nats, exact: the sum over all choices made."""

    text: str
    log_prob: float
    n_stories: int

    @property
    def floor(self) -> float:
        """-log_prob / len(text), in nats per character."""
        return -self.log_prob / len(self.text)


def tell(seed: int = 0) -> Iterator[tuple[str, float]]:
    """Endless stories, without the blank line after them, each with its log p in nats."""
    rng = Random(seed)
    while True:
        teller = Sampler(rng)
        story(teller)
        yield teller.text, -log(teller.ways)


def generate(n_chars: int, seed: int = 0) -> Tales:
    """Whole stories until there are at least `n_chars` characters; same seed, same text.

    More characters of the same seed continue the same text.
    """
    if n_chars < 1:
        raise ValueError(f"n_chars is {n_chars}: ask for at least 1 character")
    texts, log_probs, length = [], [], 0
    for text, log_prob in tell(seed):
        texts.append(text + END)
        log_probs.append(log_prob)
        length += len(texts[-1])
        if length >= n_chars:
            break
    return Tales("".join(texts), fsum(log_probs), len(texts))


def entropy() -> float:
    """Nats per story, exact: E[-log p] over everything the grammar can tell."""
    return fsum(log(path.ways) / path.plots for path in explore(story, Surveyor))


@dataclass(frozen=True)
class Derivation:
    """One way to tell a story: which option was taken at each fork, and log p in nats."""

    path: tuple[int, ...]
    log_prob: float


def parse(text: str) -> list[Derivation]:
    """All derivations of one story, with or without the blank line after it; none if it is not."""
    told, _, _ = read(story, text.removesuffix(END))
    return [Derivation(path.path, -log(path.ways)) for path in told]


def floor(text: str) -> float:
    """Nats per character of whole stories: -log p / len(text), from the text alone.

    Raises ValueError for a story that the grammar does not tell, or tells in two ways.
    """
    if not text.endswith(END):
        raise ValueError("the text must be whole stories, each followed by a blank line")
    log_probs = []
    for number, told in enumerate(text.removesuffix(END).split(END), 1):
        derivations = parse(told)
        if len(derivations) != 1:
            raise ValueError(f"story {number} has {len(derivations)} derivations, not 1: {told!r}")
        log_probs.append(derivations[0].log_prob)
    return -fsum(log_probs) / len(text)


@dataclass(frozen=True)
class BadStory:
    """A story (its number, from 1) that leaves the grammar, and where."""

    number: int
    sentence: str  # the first offending sentence; empty if the story ends too early
    wanted: str  # what the grammar would have gone on with there

    def __str__(self) -> str:
        if not self.sentence:
            return f"story {self.number} ends too early"
        wanted = f"wanted {self.wanted.strip()!r}" if self.wanted else "the story was over"
        return f"story {self.number}: {self.sentence!r}, but {wanted}"


@dataclass(frozen=True)
class Report:
    """What the grammar accepts of a text. Shares are nan where nothing could be judged."""

    n_stories: int = 0
    n_good_stories: int = 0
    n_sentences: int = 0
    n_good_sentences: int = 0
    bad: list[BadStory] = field(default_factory=list)
    unfinished: bool = False  # the text stops in a story: its whole sentences are judged, it is not

    @property
    def story_share(self) -> float:
        return self.n_good_stories / self.n_stories if self.n_stories else nan

    @property
    def sentence_share(self) -> float:
        return self.n_good_sentences / self.n_sentences if self.n_sentences else nan

    def __str__(self) -> str:
        return (
            f"{_share(self.n_good_sentences, self.n_sentences)} sentences and "
            f"{_share(self.n_good_stories, self.n_stories)} stories follow the grammar"
            + ("; an unfinished story at the end is not counted" if self.unfinished else "")
        )


def _share(good: int, n: int) -> str:
    return f"{good} of {n}" + (f" ({good / n:.1%})" if n else "")


def check(text: str, *, mid_story: bool = False) -> Report:
    """How much of a model's text the grammar accepts.

    A sentence is good if the story up to its end can go on to a whole story; so after a first
    offence no sentence of that story is good. A story is good if it is one, word for word. The last
    story is not counted unless a blank line ends it, but its whole sentences are. `mid_story` says
    that the text begins inside a story (its prompt was cut off): nothing is judged before the first
    blank line.
    """
    *stories, rest = text.split(END) if mid_story else text.lstrip("\n").split(END)
    if mid_story and stories:
        stories = stories[1:]
    elif mid_story:
        rest = ""
    good_stories = n_sentences = good_sentences = 0
    bad = []
    for number, told in enumerate([*stories, rest], 1):
        finished = number <= len(stories)
        derivations, reached, wanted = read(story, told)
        ends = list(_sentence_ends(told, finished))
        good = sum(end <= reached for end in ends)
        n_sentences += len(ends)
        good_sentences += good
        if finished and derivations:
            good_stories += 1
        elif finished or good < len(ends):
            start = ends[good - 1] if good else 0
            sentence = told[start : ends[good]].strip() if good < len(ends) else ""
            bad.append(BadStory(number, sentence, wanted))
    return Report(len(stories), good_stories, n_sentences, good_sentences, bad, bool(rest))


def _sentence_ends(text: str, finished: bool) -> Iterator[int]:
    """Where sentences end: after . ! or ? and a closing quote. What is left is one, if finished."""
    end = 0
    for match in re.finditer(r'[.!?]+"?(?=\s|$)', text):
        end = match.end()
        if finished or end < len(text):  # at the very end, a closing quote may be still to come
            yield end
    if finished and text[end:].strip():
        yield len(text)
