"""The vocabulary of archives: what is handed to a worker, what comes out, what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from data.errors import DataError
from data.reading import Newlines


class Document(NamedTuple):
    """One text of a corpus; or a piece of one, where a single text is too large for memory.

    more: the next document goes on where this one ends: no end-of-text belongs between them.
    """

    label: str  # the file, the members inside, and @offset or :line where it is one of several
    text: str
    more: bool = False


@dataclass(frozen=True)
class Options:
    """How an archive is read, and how much of it is believed. Sizes are in bytes."""

    skip_bad: bool = False  # leave out what cannot be read, and count it, instead of raising
    field: str = "text"  # which field of a JSON line, which column of a parquet file
    newlines: Newlines = "lf"  # "lf": CRLF and CR become LF; "keep": as they are
    separator: str = "<|endoftext|>"  # what documents in one text are separated by
    max_ratio: int = 250  # decompressed / compressed; text reaches 10, a bomb 1,000 and more
    max_size: int = 1 << 40  # of one stream when decompressed
    max_depth: int = 8  # archives within archives
    max_held: int = 32 << 20  # what must be in memory at once: a zip within a tar.xz, a JSON line


@dataclass(frozen=True)
class Extent:
    """`size` bytes of a file, from `offset` on: read where they are needed, not before."""

    path: str
    offset: int
    size: int


Kind = Literal["text", "jsonl", "parquet", "archive"]


@dataclass(frozen=True)
class Piece:
    """A text, a part of one, a row group, or a small archive with whatever it holds."""

    label: str
    kind: Kind
    data: bytes | Extent
    name: str  # the innermost name: it tells JSON lines from text
    depth: int = 0
    offset: int = 0  # of a text's part: where in the whole it begins
    continues: bool = False  # the piece before ends in the middle of a document, which goes on here
    more: bool = False  # this one does
    row_group: int | None = None

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return self.data.size if isinstance(self.data, Extent) else len(self.data)

    @property
    def place(self) -> str:
        """The label, and which part of it this is."""
        part = f"{self.offset}" if self.continues or self.more or self.offset else self.row_group
        return self.label if part is None else f"{self.label}@{part}"


@dataclass(frozen=True)
class Unit:
    """Work for one process: picklable, some megabytes at most, the same in every run."""

    label: str
    pieces: tuple[Piece, ...]
    options: Options

    @property
    def size(self) -> int:
        """Bytes as stored: what progress is measured in."""
        return sum(piece.size for piece in self.pieces)


@dataclass
class Report:
    """What `skip_bad` left out. Reports of several workers add up: `report += theirs`."""

    KEPT = 100  # reasons remembered; the count goes on

    skipped: int = 0
    reasons: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)  # hidden files and the like, by kind
    _last: DataError | None = None

    def skip(self, error: DataError) -> None:
        if error is self._last:  # a broken stream says so to each of the archives within it
            return
        self._last = error
        self.skipped += 1
        if len(self.reasons) < self.KEPT:
            self.reasons.append(str(error))

    def __iadd__(self, other: Report) -> Report:
        self.skipped += other.skipped
        self.reasons = (self.reasons + other.reasons)[: self.KEPT]
        self.ignored += other.ignored
        return self

    @contextmanager
    def skipping(self, skip_bad: bool) -> Iterator[None]:
        """A DataError inside ends the block; it is counted, or raised unless `skip_bad`."""
        try:
            yield
        except DataError as error:
            if not skip_bad:
                raise
            self.skip(error)
