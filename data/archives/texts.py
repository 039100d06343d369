"""Texts and JSON lines: cut into pieces where it does no harm, and read as documents.

A large text is cut every 4 MB or a little later, at the first of these that the next MB has:

1. after a separator, `<|endoftext|>`: between two documents;
2. after a line end that stands alone between two visible characters, as between two lines of a
   paragraph (with line ends as LF, the default, a tokenizer that first splits as GPT-2's or GPT-4's
   does gives the two sides the tokens of the whole);
3. before a space that stands alone, for the same reason;
4. between two characters.

Only the first ends a document: after the others the next piece goes on (`Document.more`).
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from data.archives.source import Source, read_extent
from data.archives.unit import Document, Extent, Kind, Options, Piece, Report
from data.errors import DataError
from data.reading import line_ends

PIECE = 4 << 20
WINDOW = 1 << 20
NEAR = 1 << 16  # of the window: where 2 to 4 are looked for
VISIBLE = r"[^\s\udc80-\udcff]"  # surrogates: bytes of a character that the window cut in two
LINE_END = re.compile(rf"(?<={VISIBLE})\r?\n(?={VISIBLE})")
SPACE = re.compile(rf"(?<={VISIBLE}) (?={VISIBLE})")
CHARACTER = re.compile(r"[^\n\udc80-\udcff]")  # not \n: it may be half of a CRLF


class Cut(NamedTuple):
    at: int  # bytes into the window
    more: bool  # the document goes on after it


def cut(window: bytes, separator: str) -> Cut:
    """Where to end a text's piece, in the bytes that follow its first 4 MB."""
    mark = separator.encode()
    # Not at the very end of the window: the line end after a separator belongs to it.
    if mark and (found := window.find(mark, 0, len(window) - 2)) >= 0:
        end = found + len(mark)
        return Cut(end + _line_end(window[end : end + 2]), False)
    # A separator that began before the window, or the CRLF after it, must not be cut either.
    skipped = len(mark) + 1 if mark else 0
    text = window[skipped:NEAR].decode("utf-8", "surrogateescape")
    at = 0  # where it is no UTF-8: the reading will say so
    if line_end := LINE_END.search(text):
        at = line_end.end()
    elif start := SPACE.search(text) or CHARACTER.search(text):
        at = start.start()
    return Cut(skipped + len(text[:at].encode("utf-8", "surrogateescape")), True)


def cut_lines(window: bytes) -> Cut | None:
    """Where to end a piece of JSON lines; None: the window has no line end."""
    end = window.find(b"\n") + 1
    return Cut(end, False) if end else None


def pieces(source: Source, kind: Kind, options: Options) -> Iterator[Piece]:
    """A text or JSON lines in pieces of some MB. Of a plain file, only the cuts are looked at."""
    make = partial(Piece, source.label, kind, name=source.name, depth=source.depth)
    if source.size is not None and source.size <= PIECE:
        yield make(source.extent or source.data(PIECE))
        return
    reader = _InFile(source.extent) if source.extent else _Streamed(source)
    start, continues = 0, False
    while found := _next_cut(reader, kind, source.label, options):
        size = PIECE + found.at
        yield make(reader.take(size), offset=start, continues=continues, more=found.more)
        start, continues = start + size, found.more
    yield make(reader.take(None), offset=start, continues=continues)


def _next_cut(reader: _InFile | _Streamed, kind: Kind, label: str, options: Options) -> Cut | None:
    """None where the rest is small enough to be the last piece."""
    ahead = WINDOW
    while len(window := reader.ahead(ahead)) == ahead:
        if found := cut(window, options.separator) if kind == "text" else cut_lines(window):
            return found
        if ahead >= options.max_held:
            raise DataError(f"{label}: a line is longer than {ahead:,} bytes: is it JSON lines?")
        ahead *= 2
    return None


class _InFile:
    """An extent of a file, from which pieces are taken without being read."""

    def __init__(self, extent: Extent) -> None:
        self.rest = extent

    def ahead(self, n: int) -> bytes:
        """At most n of the bytes that follow the next PIECE."""
        path, offset, size = self.rest.path, self.rest.offset, self.rest.size
        return read_extent(Extent(path, offset + PIECE, max(0, min(n, size - PIECE))))

    def take(self, n: int | None) -> Extent:
        path, offset, size = self.rest.path, self.rest.offset, self.rest.size
        n = size if n is None else n
        self.rest = Extent(path, offset + n, size - n)
        return Extent(path, offset, n)


class _Streamed:
    """The same of a stream: a piece and what lies ahead of it are held in memory."""

    def __init__(self, source: Source) -> None:
        self.stream, self.held = source.stream, b""

    def ahead(self, n: int) -> bytes:
        self.held += self.stream.read(PIECE + n - len(self.held))
        return self.held[PIECE : PIECE + n]

    def take(self, n: int | None) -> bytes:
        n = len(self.held) if n is None else n
        taken, self.held = self.held[:n], self.held[n:]
        return taken


def texts(piece: Piece, data: bytes, options: Options, report: Report) -> Iterator[Document]:
    """A text's piece, as the documents between its separators, without a line end on either side.

    Where there are several, `label@byte` says where each begins. Empty ones are left out.
    """
    parts = data.split(options.separator.encode()) if options.separator else [data]
    whole = len(parts) == 1 and not (piece.offset or piece.more)
    offset, last = piece.offset, len(parts) - 1
    if offset == 0 and data.startswith(codecs.BOM_UTF8):
        report.ignored["byte-order marks"] += 1
    for i, part in enumerate(parts):
        lead = _line_end(part[:2]) if i else 0
        label = piece.label if whole else f"{piece.label}@{offset + lead}"
        text, more = "", piece.more and i == last
        with report.skipping(options.skip_bad):
            end = len(part) - (_line_end(part[-2:], at_end=True) if i < last else 0)
            text = decode(part[lead:end], piece.label, offset + lead, options)
        # An empty rest of a document that an earlier piece began still tells that it has ended.
        if text or (piece.continues and i == 0):
            yield Document(label, text, more)
        offset += len(part) + len(options.separator.encode())


def lines(piece: Piece, data: bytes, options: Options, report: Report) -> Iterator[Document]:
    """A piece of JSON lines: `options.field` of each, labelled by the byte it begins at."""
    offset = piece.offset
    for line in data.split(b"\n"):
        label = f"{piece.label}@{offset}"
        with report.skipping(options.skip_bad):
            if line.strip() and (text := _field(line, label, options)):
                yield Document(label, text)
        offset += len(line) + 1


def decode(data: bytes, label: str, offset: int, options: Options) -> str:
    """UTF-8 without a byte-order mark at the very beginning; NUL is refused, as binary data."""
    if (nul := data.find(b"\0")) >= 0:
        raise DataError(
            f"{label}: NUL at byte {offset + nul:,}: this is binary data, or UTF-16, not UTF-8 text"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{label} is not valid UTF-8: byte 0x{data[error.start]:02x} at offset "
            f"{offset + error.start:,}. Save it as UTF-8, or leave such out with --skip-bad"
        ) from None
    if offset == 0:
        text = text.removeprefix("\ufeff")
    return line_ends(text, options.newlines)


def clean(text: object, label: str, options: Options) -> str:
    """A text that another format has decoded: checked as `decode` checks one."""
    if not isinstance(text, str):
        raise DataError(f"{label}: {options.field!r} is {type(text).__name__}, not a text")
    if (nul := text.find("\0")) >= 0:
        raise DataError(f"{label}: NUL at character {nul:,}: this is binary data, not text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{label}: half a surrogate pair at character {error.start:,}: no Unicode text"
        ) from None
    return line_ends(text, options.newlines)


def _field(line: bytes, label: str, options: Options) -> str:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{label} is not a line of JSON: {error}") from None
    if not isinstance(row, dict) or options.field not in row:
        there = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise DataError(f"{label} has no field {options.field!r}; it has {there[:200]}")
    return clean(row[options.field], label, options)


def _line_end(data: bytes, at_end: bool = False) -> int:
    """Bytes of the line end that `data` begins (or ends) with."""
    test = data.endswith if at_end else data.startswith
    return 2 if test(b"\r\n") else 1 if test(b"\n") else 0
