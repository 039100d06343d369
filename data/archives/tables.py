"""Parquet, row group by row group; pyarrow is loaded when a file asks for it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from data.archives.source import Slice, Source
from data.archives.texts import clean
from data.archives.unit import Document, Extent, Options, Piece, Report
from data.errors import DataError

ROWS = 64  # decoded at a time


def pieces(source: Source, options: Options) -> Iterator[Piece]:
    """One piece per row group; a table that lies in no file is held, and is a single one."""
    data = source.extent or source.data(options.max_held)
    piece = Piece(source.label, "parquet", data, source.name, source.depth)
    if not source.extent:
        yield piece
        return
    with _table(piece, options) as table:
        count = table.num_row_groups
    for group in range(count):
        yield replace(piece, row_group=group)


def documents(piece: Piece, options: Options, report: Report) -> Iterator[Document]:
    """`options.field` of every row, labelled `file@row group.row`; nulls are counted and left out.

    An unreadable row group ends with a DataError, or, skipping, with what could be read of it.
    """
    with _table(piece, options) as table:
        everything = range(table.num_row_groups)
        for group in everything if piece.row_group is None else [piece.row_group]:
            with report.skipping(options.skip_bad), _failures(f"{piece.label}@{group}"):
                row = 0
                batches = table.iter_batches(ROWS, [group], [options.field], use_threads=False)
                for batch in batches:
                    for value in batch.column(0):
                        label, row = f"{piece.label}@{group}.{row}", row + 1
                        if (text := value.as_py()) is None:
                            report.ignored["nulls"] += 1
                            continue
                        with report.skipping(options.skip_bad):
                            if text := clean(text, label, options):
                                yield Document(label, text)


@contextmanager
def _table(piece: Piece, options: Options) -> Iterator[Any]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise DataError(f"{piece.label} is parquet: pip install pyarrow to read it") from error
    held = piece.data
    file = io.BufferedReader(Slice(held)) if isinstance(held, Extent) else io.BytesIO(held)
    with file:
        with _failures(piece.label):
            # pre_buffer would read whole row groups into memory at once.
            table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        names = table.schema_arrow.names
        if options.field not in names:
            raise DataError(
                f"{piece.label} has no column {options.field!r}; it has {', '.join(names)[:200]}"
            )
        yield table


@contextmanager
def _failures(label: str) -> Iterator[None]:
    """pyarrow's errors, which are ValueErrors and OSErrors too, as DataErrors."""
    try:
        yield
    except DataError:
        raise
    except (ValueError, OSError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{label}: corrupt or cut-short parquet: {reason}") from None
