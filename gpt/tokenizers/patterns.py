"""How text is split into pieces before anything is merged; no token spans two pieces.

Each pattern is exhaustive: the pieces of a text, put together, are the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any

from gpt.errors import nearest
from gpt.tokenizers.errors import TokenizerError
from gpt.tokenizers.parallel import in_order, parts

PATTERNS = {
    # Words, single signs, and runs of blanks: nothing is joined.
    "word": r"\w++|[^\w\s]|\s++",
    # GPT-2's (OpenAI, encoder.py). Possessive quantifiers only spare the engine its memory.
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s+(?!\S)|\s++",
    # GPT-4's (OpenAI, tiktoken's cl100k_base): at most 3 digits, capital contractions, ends of
    # lines with the blanks before. As first published; later ones keep all final blanks together.
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]++|\s+(?!\S)|\s++",
}
# Places, the last first, where all three patterns end a piece and begin the next, whatever stands
# around: after a letter or number, before what is no part of a word; and before a blank after a
# sign, if the blank ends no line (GPT-4 joins ends of lines to signs).
CUT = r"(?r)(?<=[\p{L}\p{N}])[^\w\p{L}\p{N}]|(?<=\S)[^\S\r\n]"
TOGETHER = 1 << 20  # characters of short texts that a worker counts at a time


@cache
def compiled(pattern: str) -> Any:
    try:
        import regex  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise TokenizerError("word and bpe tokenizers need regex: pip install regex") from None
    return regex.compile(pattern)


def known_pattern(name: str) -> str:
    """The name, if it is one."""
    if name not in PATTERNS:
        raise TokenizerError(f"pattern {name!r} is unknown{nearest(name, PATTERNS)}")
    return name


def split(text: str, name: str) -> list[str]:
    """The pieces of a text."""
    return compiled(PATTERNS[name]).findall(text)


def last_cut(text: str) -> int:
    """The last place where `text` can be cut without changing any piece, whatever follows; or 0."""
    found = compiled(CUT).search(text)
    return found.start() if found else 0


def count_pieces(texts: Iterable[str], name: str, workers: int = 1) -> Counter[str]:
    """How often each piece occurs in the texts, no piece spanning two of them."""
    counts: Counter[str] = Counter()
    jobs = ((group, name) for group in groups(texts))
    for part in in_order(_count, jobs, workers):
        counts.update(part)
    return counts


def groups(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts together, long ones cut, to jobs of about one size."""
    group, size = list[str](), 0
    for text in texts:
        for part in parts([text], last_cut):
            group.append(part)
            size += len(part)
            if size >= TOGETHER:
                yield group
                group, size = [], 0
    yield group


def _count(job: tuple[list[str], str]) -> Counter[str]:
    group, name = job
    return Counter(chain.from_iterable(split(text, name) for text in group))
