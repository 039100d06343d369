"""Tar, member by member: v7, ustar, GNU and pax headers, from a stream that cannot seek.

The header's fields are parsed by the standard library's TarInfo. Not used is its TarFile: it keeps
every member in memory, reads a pax header of any size, and takes a corrupt header for the end.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

from data.archives.source import Member, Source, is_hidden, member_name
from data.archives.unit import Extent, Options, Report
from data.errors import DataError

BLOCK = 512
MAX_HEADER = 1 << 20  # bytes of a long name or a pax header
REFUSED = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def members(source: Source, options: Options, report: Report) -> Iterator[Source]:
    """The regular files of a tar; each must be done with before the next is asked for."""
    stream, offset = source.stream, 0
    names = _Names()
    for header in iter(lambda: stream.read(BLOCK), b""):
        here, offset = offset, offset + BLOCK
        names.ended = names.ended or not any(header)
        if not any(header):
            continue
        info = _parse(header, source.label, here)
        if info.type in _Names.TYPES:
            names.add(info, _read(stream, info.size, source.label, here))
            offset += _padded(info.size)
            continue
        if names.size is not None:  # too large for the header's own field
            info.size = names.size
        label, end = source.label, offset + _padded(info.size)
        if source.extent and offset + info.size > source.extent.size:
            raise DataError(f"{label}: cut short at its member {info.name!r}; download it again")
        member = Member(stream, info.size, label)
        with report.skipping(options.skip_bad):
            name = member_name(names.path or info.name, label)
            member.label = f"{label}/{name}"
            if info.type in REFUSED or names.sparse:
                what = REFUSED.get(info.type, "a sparse file")
                raise DataError(f"{member.label} is refused: it is {what}, not a regular file")
            if info.type in tarfile.REGULAR_TYPES:
                if is_hidden(name):
                    report.ignored["hidden files"] += 1
                else:
                    extent = source.extent and Extent(
                        source.extent.path, source.extent.offset + offset, info.size
                    )
                    yield Source(member.label, name.split("/")[-1], member, source.depth + 1,
                                 info.size, extent)  # fmt: skip
            elif info.type not in (tarfile.DIRTYPE, b"V"):  # V: a volume's label
                raise DataError(f"{member.label} is refused: unknown type {info.type!r}")
        _skip(stream, member.left + _padded(info.size) - info.size, label)
        offset, names = end, _Names()
    if not names.ended:
        raise DataError(
            f"{source.label}: cut short: the tar ends at byte {offset:,} without its two blocks of "
            f"zeros; download or copy it again"
        )


class _Names:
    """What the headers before a member's own say of it."""

    TYPES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE,
             tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)  # fmt: skip

    def __init__(self) -> None:
        self.path: str | None = None
        self.size: int | None = None
        self.sparse = self.ended = False

    def add(self, info: tarfile.TarInfo, data: bytes) -> None:
        if info.type == tarfile.GNUTYPE_LONGNAME:
            self.path = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            while data.strip(b"\0"):  # records of "LENGTH KEY=VALUE\n", LENGTH counting all of it
                length, _, rest = data.partition(b" ")
                if not length.isdigit() or int(length) <= len(length) + 1:
                    break
                record, data = rest[: int(length) - len(length) - 2], data[int(length) :]
                key, _, value = record.partition(b"=")
                if key == b"path":
                    self.path = value.decode("utf-8", "surrogateescape")
                elif key == b"size" and value.isdigit():
                    self.size = int(value)
                elif key.startswith(b"GNU.sparse."):
                    self.sparse = True


def _parse(header: bytes, label: str, offset: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise DataError(f"{label}: corrupt tar header at byte {offset:,}: {error}") from None
    if info.size < 0:
        raise DataError(f"{label}: corrupt tar header at byte {offset:,}: size {info.size}")
    return info


def _read(stream: io.BufferedIOBase, size: int, label: str, offset: int) -> bytes:
    if size > MAX_HEADER:
        raise DataError(f"{label}: a name of {size:,} bytes at byte {offset:,} is refused")
    data = stream.read(_padded(size))
    if len(data) < _padded(size):
        raise DataError(f"{label}: cut short in the header at byte {offset:,}; download it again")
    return data[:size]


def _skip(stream: io.BufferedReader, n: int, label: str) -> None:
    if stream.seekable():
        stream.seek(n, io.SEEK_CUR)
        return
    while n:
        if not (data := stream.read(min(n, 1 << 20))):
            raise DataError(f"{label}: cut short: {n:,} bytes of its last member are missing")
        n -= len(data)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
