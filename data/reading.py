"""Text files as they come: byte-order marks, three kinds of line end, bytes that are not UTF-8."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Literal

from data.errors import DataError

Newlines = Literal["lf", "keep"]

# What a file that is no plain text starts with, at which byte, and how to get at the text.
_SIGNATURES = (
    (0, b"\xfd7zXZ\0", "an xz archive", "unpack it first: xz -dk {path}"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first: gzip -dk {path}"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first: zstd -dk {path}"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it first: unzip {path}"),
    (257, b"ustar", "a tar archive", "unpack it first: tar -xf {path}"),
    (0, b"%PDF-", "a PDF", "save it as text first"),
    (0, b"\xff\xfe", "UTF-16", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 {path} > utf8.txt"),
    (0, b"\xfe\xff", "UTF-16", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 {path} > utf8.txt"),
)


def read_text(path: str | Path, newlines: Newlines = "lf", encoding: str = "utf-8") -> str:
    """The characters of a text file, without a leading byte-order mark (U+FEFF).

    newlines: "lf" turns CRLF and CR into LF, so that a book from Windows spends no symbol on line
    ends; "keep" leaves them. encoding: any codec Python knows; the text must be valid in it.

    Raises DataError for a file that is missing, empty, a folder, an archive or not valid text; it
    names the offset of the first bad byte, its line, and the fix.
    """
    path = Path(path)
    if newlines not in ("lf", "keep"):
        raise DataError(f"newlines is {newlines!r}: it must be 'lf' or 'keep'")
    try:
        codec = codecs.lookup(encoding).name
    except LookupError:
        raise DataError(f"encoding is {encoding!r}: Python has no such codec; try utf-8") from None
    raw = _read_bytes(path)
    for offset, magic, kind, fix in _SIGNATURES:
        if codec == "utf-8" and raw.startswith(magic, offset):
            raise DataError(f"{path} is {kind}, not a UTF-8 text: {fix.format(path=path)}")
    try:
        text = raw.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        bad, line = error.start, raw.count(b"\n", 0, error.start) + 1
        column = bad - raw.rfind(b"\n", 0, bad)
        raise DataError(
            f"{path} is not valid {codec}: byte 0x{raw[bad]:02x} at offset {bad:,} (line {line:,}, "
            f"byte {column:,} of it). Save it as UTF-8; if it is an old "
            f"Windows file: iconv -f WINDOWS-1252 -t UTF-8 {path} > utf8.txt"
        ) from None
    if not text:
        raise DataError(f"{path} is empty: give a file with text in it")
    return line_ends(text, newlines)


def line_ends(text: str, newlines: Newlines) -> str:
    """ "lf": CRLF and CR become LF; "keep": the text as it is."""
    if newlines == "lf" and "\r" in text:
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; look for it with: ls {path.parent}") from None
    except IsADirectoryError:
        texts = sorted(path.glob("*.txt"))
        like = f", such as {texts[0]}" if texts else ""
        raise DataError(f"{path} is a folder: give one text file{like}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
