"""Documents out of archives in archives, as a stream: nothing is unpacked to disk.

    for document in archives.read("openwebtext.tar.xz"):     # one process
        document.label, document.text

    for unit in archives.units("openwebtext.tar.xz"):        # or many: units are picklable
        pool.submit(work, unit)                              # there: archives.documents(unit)

Read are text, JSON lines (.jsonl, field `text`), parquet (column `text`), gzip, bzip2, xz, lzma
(also as pylzma writes it), zstd, zip, tar, and folders of these, within each other. What a file is,
its first bytes say: an `.xz` that holds a tar, as OpenWebText's do, is read as a tar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data.archives import walk
from data.archives.unit import Document, Options, Piece, Report, Unit

BATCH = 1 << 20  # bytes of small texts that make one unit

__all__ = ["Document", "Options", "Report", "Unit", "documents", "read", "units"]


def units(
    path: str | Path,
    *,
    skip_bad: bool = False,
    options: Options | None = None,
    report: Report | None = None,
) -> Iterator[Unit]:
    """The work that a file or a folder makes, in an order that depends on nothing but its bytes.

    skip_bad: what cannot be read is left out and counted in `report`, not raised; the units carry
    it, and the other `options`, to `documents`. Memory: some megabytes, whatever the size.

    Raises DataError, naming file, member and offset.
    """
    chosen = options or Options()
    chosen = replace(chosen, skip_bad=skip_bad or chosen.skip_bad)
    report = Report() if report is None else report
    batch: list[Piece] = []
    for piece in walk.Walk(chosen, report, whole=True).path(Path(path).expanduser()):
        alone = piece.kind == "archive" or piece.size > BATCH
        if batch and (alone or sum(p.size for p in batch) + piece.size > BATCH):
            yield _unit(batch, chosen)
            batch = []
        batch.append(piece)
        if alone:
            yield _unit(batch, chosen)
            batch = []
    if batch:
        yield _unit(batch, chosen)


def documents(unit: Unit, *, report: Report | None = None) -> Iterator[Document]:
    """The documents of one unit, in order. Raises DataError as `units` does."""
    report = Report() if report is None else report
    for piece in unit.pieces:
        yield from walk.documents(piece, unit.options, report)


def _unit(pieces: list[Piece], options: Options) -> Unit:
    first, last = pieces[0].place, pieces[-1].place
    return Unit(first if len(pieces) == 1 else f"{first} .. {last}", tuple(pieces), options)


def read(
    path: str | Path,
    *,
    skip_bad: bool = False,
    options: Options | None = None,
    report: Report | None = None,
) -> Iterator[Document]:
    """Every document of a file or a folder, in order: `documents` of all its `units`."""
    for unit in units(path, skip_bad=skip_bad, options=options, report=report):
        yield from documents(unit, report=report)
