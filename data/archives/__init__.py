"""Documents out of archives, nested to any sensible depth, as a stream: nothing is unpacked to disk.

    for document in archives.read("openwebtext.tar.xz"):           # one process
        document.label, document.text

    for unit in archives.units("openwebtext.tar.xz"):              # or many: units are picklable
        pool.submit(work, unit)                                    # there: archives.documents(unit)

Read are text, JSON lines (.jsonl, field `text`), parquet (column `text`), gzip, bzip2, xz, lzma (also
as pylzma writes it), zstd, zip, tar, and folders of these. What a file is, its first bytes say: an
`.xz` that holds a tar, as OpenWebText's do, is read as a tar.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data.archives.unit import Document, Options, Report, Unit

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
    raise NotImplementedError


def documents(unit: Unit, *, report: Report | None = None) -> Iterator[Document]:
    """The documents of one unit, in order. Raises DataError as `units` does."""
    raise NotImplementedError


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
