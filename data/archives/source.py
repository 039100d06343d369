"""A file, a member, or what a compressed one holds: its names, its size and its bytes."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from data.archives.streams import CHUNK, Raw
from data.archives.unit import Extent, Options
from data.errors import DataError


@dataclass
class Source:
    """`extent` says where the bytes lie in a file, if they do as they are; `size` may be unknown.

    label: what people are told: the path and the members inside. name: the innermost alone.
    """

    label: str
    name: str
    raw: Raw
    depth: int
    size: int | None = None
    extent: Extent | None = None

    @property
    def head(self) -> bytes:
        return self.raw.head()

    @cached_property
    def stream(self) -> io.BufferedReader:
        return io.BufferedReader(self.raw, CHUNK)

    def data(self, limit: int) -> bytes:
        """All of it, or DataError."""
        data = self.stream.read(limit + 1)
        if len(data) > limit:
            raise DataError(
                f"{self.label}: inside a compressed archive it must be held in memory, and is "
                f"larger than {limit:,} bytes (max_held): unpack that archive first"
            )
        return data

    def seekable(self, options: Options) -> BinaryIO:
        """For formats that must be read from their end: the file where there is one."""
        if self.extent:
            return io.BufferedReader(Slice(self.extent), CHUNK)
        return io.BytesIO(self.data(options.max_held))


class Slice(Raw):
    """An extent of a file, as if it were one."""

    def __init__(self, extent: Extent) -> None:
        try:
            self.file = open(extent.path, "rb", buffering=0)  # noqa: SIM115 (closed by close)
            self.file.seek(extent.offset)
        except OSError as error:
            raise DataError(f"{extent.path} cannot be read: {error.strerror or error}") from None
        self.extent, self.position = extent, 0

    def next(self, n: int) -> bytes:
        try:
            data = self.file.read(max(0, min(n, self.extent.size - self.position)))
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{self.extent.path} cannot be read: {reason}") from None
        self.position += len(data)
        return data

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position - len(self._seen)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.extent.size}[whence]
        if base + offset < 0:
            raise OSError(22, "seek before the beginning")
        self._seen, self.position = b"", base + offset
        self.file.seek(self.extent.offset + self.position)
        return self.position

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()


class Held(Raw):
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def next(self, n: int) -> bytes:
        return self.file.read(n)


class Member(Raw):
    """The next `size` bytes of an archive's own stream."""

    def __init__(self, archive: io.BufferedIOBase, size: int, label: str) -> None:
        self.archive, self.left, self.label = archive, size, label

    def next(self, n: int) -> bytes:
        wanted = min(n, self.left)
        data = self.archive.read(wanted)
        self.left -= len(data)
        if len(data) < wanted:
            raise DataError(
                f"{self.label}: cut short: its last {self.left:,} bytes are missing; download or "
                f"copy the archive again"
            )
        return data


def extent_source(label: str, name: str, extent: Extent, depth: int) -> Source:
    return Source(label, name, Slice(extent), depth, extent.size, extent)


def read_extent(extent: Extent) -> bytes:
    """All its bytes; DataError where the file has become shorter since."""
    with Slice(extent) as raw:
        data = io.BufferedReader(raw, CHUNK).read(extent.size)
    if len(data) < extent.size:
        raise DataError(f"{extent.path} became shorter while it was read")
    return data


def member_name(name: str, archive: str) -> str:
    """A member's name, clean; raises DataError for one that points out of its archive."""
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    fault = None
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        fault = "an absolute path"
    elif ".." in parts:
        fault = "a path out of its archive"
    elif "\\" in name or not name.isprintable():
        fault = "a name with a backslash or a control character"
    elif not parts:
        fault = "no name at all"
    if fault:
        raise DataError(f"{archive}: its member {name!r} is refused: {fault}")
    return "/".join(parts)


def is_hidden(name: str) -> bool:
    """What systems leave behind beside the data: .DS_Store, ._name, __MACOSX/."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
