"""What a person sees while a corpus is prepared: a bar where there is a terminal, else a log."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any

from rich.console import Console

from gpt.progress import EVERY, bar, quantity


class Progress:
    """`with Progress(size) as show:`; `show.advance` per unit. size: bytes of the source."""

    def __init__(self, size: int) -> None:
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.size, self.done, self.start = size, 0, monotonic()
        self.text = self.tokens = 0  # since the start
        self.next_line = self.start + EVERY
        self.bar = bar(self.console)
        self.task = self.bar.add_task("", total=size)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.stop()

    def begin(self, done: int) -> None:
        """The work begins, `done` bytes of the source being behind it."""
        self.done, self.start = done, monotonic()
        self.bar.reset(self.task, completed=done)

    def advance(self, stored: int, text: int, tokens: int) -> None:
        """Bytes of the source that are done, and what they held: bytes of text, tokens."""
        self.done += stored
        self.text += text
        self.tokens += tokens
        seconds = max(monotonic() - self.start, 1e-9)
        rates = f"{self.text / seconds / 1e6:.1f} MB/s  {quantity(self.tokens / seconds)} tok/s"
        # A compressed source holds more than its size: how much more is known at its end.
        total = self.size if self.done <= self.size else None
        self.bar.update(self.task, completed=self.done, total=total, description=rates)
        if self.bar.disable and monotonic() >= self.next_line:
            self.next_line = monotonic() + EVERY
            self.print(f"{self.done / 1e6:,.0f} of {self.size / 1e6:,.0f} MB  {rates}")

    def print(self, text: str) -> None:
        """A line that stays, above the bar."""
        self.console.print(text, markup=False)
