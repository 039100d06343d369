"""Compressed data as a stream: checked to its end, limited in memory and in what it may become."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from data.archives.unit import Options
from data.errors import DataError
from data.formats import HEAD, Codec

CHUNK = 1 << 16
MEMORY = 128 << 20  # for a decompressor: xz -9 needs 65 MB
SLACK = 1 << 20  # bytes that any file may decompress to, whatever the ratio


class Raw(io.RawIOBase):
    """A stream whose beginning can be looked at before it is read."""

    _seen = b""

    def next(self, n: int) -> bytes:
        """At most n bytes; b"" at the end only."""
        raise NotImplementedError

    def head(self) -> bytes:
        while len(self._seen) < HEAD and (more := self.next(HEAD - len(self._seen))):
            self._seen += more
        return self._seen

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._seen[: len(buffer)] or self.next(len(buffer))
        self._seen = self._seen[len(chunk) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


class Decompressed(Raw):
    """One or more compressed streams, one after the other, as a single one.

    Raises DataError where they are corrupt or cut short, and for a bomb; a second time too.
    """

    def __init__(self, source: io.BufferedIOBase, codec: Codec, label: str, options: Options):
        self.source, self.codec, self.label, self.options = source, codec, label, options
        self.start, self.feed, self.failures = _codec(codec)
        self.taken = self.given = 0
        self.decoder: Any = None
        self.pending = b""  # of the source, for the next decoder
        self.error: DataError | None = None

    def next(self, n: int) -> bytes:
        if self.error:
            raise self.error
        try:
            data = self._decode(n)
        except DataError as error:
            self.error = error
            raise
        except self.failures as error:
            self.error = DataError(
                f"{self.label}: corrupt {self.codec} data before byte {self.taken:,} (after "
                f"{self.given:,} good ones, decompressed): {error}"
            )
            raise self.error from None
        self.given += len(data)
        self._check_size()
        return data

    def _decode(self, n: int) -> bytes:
        while True:
            if self.decoder is None:
                data = self._take()
                if self.taken > len(data):  # not the first: padding may lie between them
                    while data and not (data := data.lstrip(b"\0")):
                        data = self._take()
                if not data:
                    return b""
                self.decoder = self.start(self, data)
                data = self.pending
            else:
                data = self._take() if self.decoder.needs_input else b""
                if not data and self.decoder.needs_input:
                    if self.codec == "pylzma":  # without its end marker: nothing tells the end
                        return b""
                    raise DataError(
                        f"{self.label}: cut short: its {self.codec} data ends at byte "
                        f"{self.taken:,}, before its end marker; download or copy it again"
                    )
            self.pending = b""
            out = self.decoder.decompress(data, n)
            if self.decoder.eof:
                self.pending, self.decoder = self.decoder.unused_data, None
            if out:
                return out

    def _take(self) -> bytes:
        data, self.pending = self.pending, b""
        if not data:
            data = self.source.read(self.feed)
            self.taken += len(data)
        return data

    def _check_size(self) -> None:
        limits = self.options
        if self.given > limits.max_size:
            fault = f"it becomes more than {limits.max_size:,} bytes (max_size)"
        elif self.given > SLACK + limits.max_ratio * self.taken:
            fault = f"{self.taken:,} bytes of it become {self.given:,}: over 1:{limits.max_ratio} "
            fault += "(max_ratio)"
        else:
            return
        self.error = DataError(f"{self.label} looks like a decompression bomb: {fault}")
        raise self.error


Start = Callable[[Decompressed, bytes], Any]


def _codec(codec: Codec) -> tuple[Start, int, tuple[type[Exception], ...]]:
    """How a decoder is made, how much it is fed at a time, and how it fails.

    Decoders have decompress(data, max_length), needs_input, eof and unused_data, as lzma's do.
    """

    def plain(make: Callable[[], Any]) -> Start:
        def start(stream: Decompressed, data: bytes) -> Any:
            stream.pending = data
            return make()

        return start

    if codec == "zstd":
        try:
            import zstandard
        except ModuleNotFoundError as error:
            raise DataError("reading zstd needs zstandard: pip install zstandard") from error
        make = zstandard.ZstdDecompressor(max_window_size=MEMORY)
        # It knows no max_length, and 4 bytes can become 128 KB: fed little, it stays small.
        return plain(lambda: _Whole(make.decompressobj())), 1 << 11, (zstandard.ZstdError,)
    if codec == "gzip":
        return plain(_Gzip), CHUNK, (zlib.error,)
    if codec == "bzip2":
        return plain(bz2.BZ2Decompressor), CHUNK, (OSError, ValueError)
    if codec == "pylzma":
        return _pylzma, CHUNK, (lzma.LZMAError,)
    format = {"xz": lzma.FORMAT_XZ, "lzma": lzma.FORMAT_ALONE}[codec]
    make_lzma = lambda: lzma.LZMADecompressor(format, MEMORY)
    return plain(make_lzma), CHUNK, (lzma.LZMAError,)


def _pylzma(stream: Decompressed, data: bytes) -> lzma.LZMADecompressor:
    """pylzma's header is the first 5 of .lzma's 13 bytes: the rest is raw LZMA1."""
    if len(data) < 6:
        raise DataError(f"{stream.label}: cut short: {len(data)} bytes are no pylzma file")
    properties, stream.pending = data[0], data[5:]
    size = int.from_bytes(data[1:5], "little")
    if size > MEMORY:
        raise DataError(f"{stream.label}: a dictionary of {size:,} bytes; at most {MEMORY:,} do")
    rest, lc = divmod(properties, 9)
    pb, lp = divmod(rest, 5)
    filters = {"id": lzma.FILTER_LZMA1, "dict_size": max(size, 4096), "lc": lc, "lp": lp, "pb": pb}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[filters])


class _Gzip:
    """zlib's decoder with lzma's interface; it checks gzip's CRC and length."""

    def __init__(self) -> None:
        self.zlib = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self.zlib.decompress(data or self.zlib.unconsumed_tail, max_length)

    @property
    def needs_input(self) -> bool:
        return not self.zlib.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self.zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self.zlib.unused_data


class _Whole:
    """zstandard's decoder with lzma's interface: what exceeds max_length waits here."""

    def __init__(self, decoder: Any) -> None:
        self.decoder, self.waiting = decoder, memoryview(b"")

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if data:
            self.waiting = memoryview(self.decoder.decompress(data))
        out, self.waiting = self.waiting[:max_length], self.waiting[max_length:]
        return bytes(out)

    @property
    def needs_input(self) -> bool:
        return not self.waiting

    @property
    def eof(self) -> bool:
        return self.decoder.eof and not self.waiting

    @property
    def unused_data(self) -> bytes:
        return self.decoder.unused_data
