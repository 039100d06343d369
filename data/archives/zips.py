"""Zip, through the standard library, with what it believes checked: sizes, overlaps, links."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import IO

from data.archives.source import Source, is_hidden, member_name
from data.archives.streams import SLACK, Raw
from data.archives.unit import Options, Report
from data.errors import DataError

LOCAL_HEADER = 30  # bytes before a member's name and data
FAILURES = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


def members(source: Source, options: Options, report: Report) -> Iterator[Source]:
    """The files of a zip, in the order of its directory (in memory: some 700 bytes a member)."""
    with source.seekable(options) as file:
        try:
            archive = zipfile.ZipFile(file)
        except (*FAILURES, ValueError) as error:
            raise DataError(f"{source.label}: corrupt or cut-short zip: {error}") from None
        _check_overlaps(archive, source.label)
        for info in archive.infolist():
            with report.skipping(options.skip_bad):
                name = member_name(info.orig_filename, source.label)
                if info.is_dir():
                    continue
                if is_hidden(name):
                    report.ignored["hidden files"] += 1
                    continue
                label = f"{source.label}/{name}"
                _check(info, label, options)
                raw = _Stored(_open(archive, info, label), label)
                yield Source(label, name.split("/")[-1], raw, source.depth + 1, info.file_size)


def _check(info: zipfile.ZipInfo, label: str, options: Options) -> None:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise DataError(f"{label} is refused: it is a link or a device, not a regular file")
    if info.flag_bits & 1:
        raise DataError(f"{label} needs a password: unpack the archive with it first")
    if info.file_size > min(options.max_size, SLACK + options.max_ratio * info.compress_size):
        raise DataError(
            f"{label} looks like a decompression bomb: {info.compress_size:,} bytes become "
            f"{info.file_size:,} (max_ratio, max_size)"
        )


def _check_overlaps(archive: zipfile.ZipFile, label: str) -> None:
    """Members that share their bytes: how a small zip becomes petabytes without much ratio."""
    spans = sorted((i.header_offset, i.compress_size) for i in archive.infolist())
    spans.append((archive.start_dir, 0))
    for (start, size), (following, _) in pairwise(spans):
        if start + LOCAL_HEADER + size > following:
            raise DataError(f"{label} looks like a decompression bomb: its members overlap")


def _open(archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> IO[bytes]:
    try:
        return archive.open(info)
    except FAILURES as error:
        raise DataError(f"{label} cannot be read: {error}") from None


class _Stored(Raw):
    """A member's bytes, its CRC checked at the end by zipfile."""

    def __init__(self, file: IO[bytes], label: str) -> None:
        self.file, self.label, self.given = file, label, 0

    def next(self, n: int) -> bytes:
        try:
            data = self.file.read(n)
        except FAILURES as error:
            raise DataError(
                f"{self.label}: corrupt zip member after {self.given:,} bytes: {error}"
            ) from None
        self.given += len(data)
        return data
