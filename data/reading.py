"""Text files as they come: byte-order marks, three kinds of line end, bytes that are not UTF-8."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Literal

from data.errors import DataError
from data.formats import HEAD, refuse_foreign, signed

Newlines = Literal["lf", "keep"]

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
    if codec == "utf-8":
        refuse_foreign(raw[:HEAD], str(path))
        if kind := signed(raw[:HEAD]):
            raise DataError(
                f"{path} is {'an' if kind == 'xz' else 'a'} {kind} archive, not a UTF-8 text: "
                f"make tokens of it first: python -m data.prepare {path}"
            )
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
        raise DataError(
            f"{path} is a folder: give one text file{like}, or make tokens of all of it: "
            f"python -m data.prepare {path}"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
