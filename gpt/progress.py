"""What a person sees while a model trains: a bar where there is a terminal, else a line of log."""

import sys
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)  # fmt: skip
from rich.progress import Progress as Bar

EVERY = 10  # seconds between lines where there is no bar


def bar(console: Console, *first: ProgressColumn) -> Bar:
    """With a description and the time left, behind columns of one's own; on terminals only."""
    columns = [BarColumn(bar_width=None), TaskProgressColumn(), TextColumn("{task.description}"),
               TextColumn("ETA"), TimeRemainingColumn()]  # fmt: skip
    return Bar(*first, *columns, console=console, disable=not console.is_terminal, expand=True)


class Progress:
    """`with Progress(steps) as progress: progress.update(step, loss=..., lr=...)`."""

    def __init__(self, total: int, done: int = 0):
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.total, self.next_line = total, monotonic() + EVERY
        self.bar = bar(self.console, TextColumn("step {task.completed}/{task.total}"))
        self.task = self.bar.add_task("", total=total, completed=done)

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.stop()

    def step(self, step: int) -> None:
        self.bar.update(self.task, completed=step)

    def update(
        self, step: int, train_loss: float, lr: float, grad_norm: float, tokens_per_s: float
    ) -> None:
        """Show the numbers of a step that were read."""
        text = (f"loss {train_loss:.4f}  lr {lr:.2e}  norm {grad_norm:.2f}  "
                f"{quantity(tokens_per_s)} tok/s")  # fmt: skip
        self.bar.update(self.task, completed=step, description=text)
        if self.bar.disable and monotonic() >= self.next_line:
            self.next_line = monotonic() + EVERY
            self.print(f"step {step}/{self.total}  {text}")

    def print(self, text: str = "") -> None:
        """A line that stays, above the bar."""
        self.console.print(text, markup=False)


def quantity(number: float) -> str:
    """A number to glance at: 812, 45.2k, 1.24M, 8.01G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
