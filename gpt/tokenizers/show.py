"""Drawings of how a text becomes tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from gpt.tokenizers.utf8 import decode_utf8


class Drawing(str):
    """Text that an interpreter and a notebook show as it is, not quoted."""

    def __repr__(self) -> str:
        return str(self)


def visible(token: bytes) -> str:
    """A token on paper: a space is a middle dot; what has no shape, and stray bytes, escaped."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        text = decode_utf8(token, "ignore")
        if not text or text.encode("utf-8", "surrogatepass") != token:
            return "".join(f"\\x{byte:02x}" for byte in token)
    return "".join(
        "·" if c == " " else c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in text
    )


def width(text: str) -> int:
    """Columns of a terminal: wide characters take two, those that combine none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def columns(tokens: Sequence[tuple[bytes, int]], at_most: int = 100) -> Drawing:
    """Tokens over their ids, in as many rows as needed."""
    rows, above, below = list[str](), "", ""
    for token, id in tokens:
        text, number = visible(token), str(id)
        size = max(width(text), len(number)) + 2
        if above and len(below) + size > at_most:
            rows += [above.rstrip(), below.rstrip(), ""]
            above = below = ""
        above, below = above + text + " " * (size - width(text)), below + number.ljust(size)
    return Drawing("\n".join([*rows, above.rstrip(), below.rstrip()]))


class Step(NamedTuple):
    """A piece on its way: its parts and their ids, and the merge that is next, if there is one."""

    parts: Sequence[bytes]
    ids: Sequence[int]
    at: int | None = None  # the parts at and at + 1 are merged ...
    rank: int = 0  # ... by this merge
    new: int = 0  # into this id


def draw_merges(pieces: Sequence[Sequence[Step]]) -> Drawing:
    """The pieces of a text, then of each its steps: the pair that merges next is underlined."""
    wholes = [visible(b"".join(steps[0].parts)) for steps in pieces]
    lines = [f"{len(pieces)} piece{'s' * (len(pieces) != 1)}: {'  '.join(wholes)}"]
    for whole, steps in zip(wholes, pieces):
        lines += ["", whole]
        for step in steps:
            texts = [visible(part) for part in step.parts]
            if step.at is None:
                drawn = columns(list(zip(step.parts, step.ids)))
                lines += ["  " + line for line in drawn.splitlines()]
                continue
            lines.append("  " + "  ".join(texts))
            before = sum(width(text) + 2 for text in texts[: step.at])
            left, right = texts[step.at : step.at + 2]
            bracket = "└" + "─" * (width(left) + width(right)) + "┘"
            lines.append(
                f"  {' ' * before}{bracket}  {left} + {right} = "
                f"{visible(step.parts[step.at] + step.parts[step.at + 1])}"
                f"   merge {step.rank}, id {step.new}"
            )
    return Drawing("\n".join(lines))
