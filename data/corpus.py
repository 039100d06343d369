"""A corpus: text to learn from, text to be judged on, and the floor below which no model can go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data.batches import split
from data.errors import DataError
from data.reading import Newlines


class Floor(NamedTuple):
    """Each part's exact entropy in nats per character, where the source is a known one."""

    train: float
    val: float


@dataclass(frozen=True)
class Corpus:
    """Two disjoint texts from one source; `floor` is None for those that people wrote."""

    name: str
    train: str
    val: str
    source: str  # where the text came from: a path, a page, or the generator and its seed
    floor: Floor | None = None

    @property
    def text(self) -> str:
        """Both parts: what a tokenizer is trained on, lest a validation character be unknown."""
        return self.train + self.val


@dataclass(frozen=True)
class Options:
    """What `data.load` asks of a recipe; a field that a recipe has no use for changes nothing."""

    val_fraction: float = 0.1  # the last tenth is held out, as nanoGPT does
    n_chars: int | None = None  # how much text; None: all of it, or the generator's default
    seed: int = 1337  # of generated corpora
    newlines: Newlines = "lf"
    data_dir: str | Path | None = None  # where downloads are kept; None: download.cache_folder()
    fraction: float = 1.0  # of a corpus in many files, such as openwebtext: the first so many

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise DataError(
                f"--val-fraction is {self.val_fraction}: it must lie between 0 and 1, as in 0.1"
            )
        if not 0 < self.fraction <= 1:
            raise DataError(f"--fraction is {self.fraction}: it must lie above 0, up to 1")
        if self.n_chars is not None and self.n_chars < 2:
            raise DataError(f"--n-chars is {self.n_chars}: at least 2 are needed, one to hold out")


def from_text(name: str, text: str, source: str, options: Options) -> Corpus:
    """The first (1 - val_fraction) of the text for training, the rest held out."""
    text = text[: options.n_chars]
    train, val = split(text, options.val_fraction)
    if not train or not val:
        raise DataError(
            f"{source}: {len(text)} characters leave {len(train)} to train on and {len(val)} to "
            f"hold out at --val-fraction {options.val_fraction}; both must have some: use more text"
        )
    return Corpus(name, train, val, source)
