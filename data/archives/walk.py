"""From a path to pieces, through folders and archives in archives; and from pieces to documents."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.archives import tables, tars, texts, zips
from data.archives.source import Held, Source, extent_source, is_hidden, read_extent
from data.archives.streams import Decompressed
from data.archives.unit import Document, Extent, Options, Piece, Report
from data.errors import DataError
from data.formats import CODECS, inner_name, sniff

SMALL = texts.PIECE  # an archive of up to so many bytes is one piece, opened by who gets it


@dataclass
class Walk:
    """One pass. `whole`: small archives are left whole, for a worker to open."""

    options: Options
    report: Report
    whole: bool

    def path(self, path: Path) -> Iterator[Piece]:
        """A file, or every regular file below a folder, in the order of their names."""
        if not path.is_dir():
            yield from self.file(path, path.name)
            return
        root = path.resolve().name or "folder"
        for folder, folders, files in os.walk(path, onerror=self.unreadable):
            here = Path(folder)
            links = [name for name in folders if (here / name).is_symlink()]
            self.report.ignored["linked folders"] += len(links)
            folders[:] = sorted(set(folders) - set(links))
            for name in sorted(files):
                inside = (here / name).relative_to(path).as_posix()
                if is_hidden(inside):
                    self.report.ignored["hidden files"] += 1
                else:
                    yield from self.file(here / name, f"{root}/{inside}")

    def file(self, path: Path, label: str) -> Iterator[Piece]:
        label = label.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        with self.report.skipping(self.options.skip_bad):
            try:
                status = path.stat()
            except FileNotFoundError:
                raise DataError(f"{path}: no such file; look: ls {path.parent}") from None
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path} is refused: it is a pipe or a device, not a regular file")
            source = extent_source(label, path.name, Extent(str(path), 0, status.st_size), 0)
            with source.raw:
                yield from self.source(source)

    def unreadable(self, error: OSError) -> None:
        with self.report.skipping(self.options.skip_bad):
            raise DataError(f"{error.filename} cannot be read: {error.strerror}")

    def source(self, source: Source) -> Iterator[Piece]:
        """Everything below one source. What is wrong with it is raised, or counted."""
        with self.report.skipping(self.options.skip_bad):
            if source.depth > self.options.max_depth:
                raise DataError(
                    f"{source.label}: more than {self.options.max_depth} archives within each "
                    f"other (max_depth): a bomb?"
                )
            kind = sniff(source.head, source.name, source.label)
            if kind == "text" or kind == "jsonl":
                yield from texts.pieces(source, kind, self.options)
            elif kind == "parquet":
                yield from tables.pieces(source, self.options)
            elif self.whole and source.size is not None and source.size <= SMALL:
                data = source.extent or source.data(SMALL)
                yield Piece(source.label, "archive", data, source.name, source.depth)
            elif kind == "tar" or kind == "zip":
                container = tars if kind == "tar" else zips
                for member in container.members(source, self.options, self.report):
                    yield from self.source(member)
            else:
                assert kind in CODECS
                raw = Decompressed(source.stream, kind, source.label, self.options)
                yield from self.source(
                    Source(source.label, inner_name(source.name), raw, source.depth + 1)
                )


def documents(piece: Piece, options: Options, report: Report) -> Iterator[Document]:
    """What one piece holds."""
    if piece.kind == "parquet":
        with report.skipping(options.skip_bad):
            yield from tables.documents(piece, options, report)
    elif piece.kind == "archive":
        for part in Walk(options, report, whole=False).source(_open(piece)):
            yield from documents(part, options, report)
    else:
        held = piece.data
        data = read_extent(held) if isinstance(held, Extent) else held
        read = texts.texts if piece.kind == "text" else texts.lines
        yield from read(piece, data, options, report)


def _open(piece: Piece) -> Source:
    if isinstance(piece.data, Extent):
        return extent_source(piece.label, piece.name, piece.data, piece.depth)
    raw = Held(piece.data)
    return Source(piece.label, piece.name, raw, piece.depth, len(piece.data))
