"""What a file is: told by its first bytes; by its name only where a format has no signature."""

from __future__ import annotations

import re
from typing import Literal

from data.errors import DataError

HEAD = 512  # bytes that tell: a tar's signature is at 257
Codec = Literal["gzip", "bzip2", "xz", "lzma", "pylzma", "zstd"]
Format = Literal["text", "jsonl", "parquet", "zip", "tar"] | Codec

SIGNATURES: tuple[tuple[bytes, Format], ...] = (
    (b"\xfd7zXZ\0", "xz"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # an empty one
    (b"PAR1", "parquet"),
)
# Read nowhere here: what it is, and what to do.
_TO_UTF8 = "save it as UTF-8: iconv -f UTF-16 -t UTF-8 {path} > utf8.txt"
FOREIGN = (
    (b"%PDF-", "a PDF", "save it as text first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first: 7z x {path}"),
    (b"Rar!", "a RAR archive", "unpack it first: unrar x {path}"),
    (b"\xff\xfe", "UTF-16", _TO_UTF8),
    (b"\xfe\xff", "UTF-16", _TO_UTF8),
)
CODECS = ("gzip", "bzip2", "xz", "lzma", "pylzma", "zstd")
_ENDING = re.compile(r"\.(gz|bz2|xz|lzma|zst|zstd)$", re.IGNORECASE)
_PACKED = re.compile(r"\.(gz|bz2|xz|zst|zstd|tgz|tbz2?|txz|tzst|tar|zip|parquet)$", re.IGNORECASE)
_TARS = re.compile(r"\.(tgz|tbz2?|txz|tlz|tzst)$", re.IGNORECASE)


def sniff(head: bytes, name: str, label: str) -> Format:
    """The format of what begins with `head` (its first 512 bytes, or all) and is called `name`.

    Raises DataError for one that is known and not read.
    """
    if kind := signed(head):
        return kind
    refuse_foreign(head, label)
    if head.startswith(b"\x5d\0\0") or name.lower().endswith((".lzma", ".tlz")):
        return _lzma(head, label)
    if re.search(r"\.(jsonl|ndjson)$", name, re.IGNORECASE):
        return "jsonl"
    if name.lower().endswith(".json") and head.startswith(b'{"'):
        return "jsonl"  # as C4 and others call their JSON lines
    if _PACKED.search(name):
        raise DataError(f"{label} does not begin as its name says: corrupt, or misnamed?")
    return "text"


def signed(head: bytes) -> Format | None:
    """The format that has this signature."""
    for magic, kind in SIGNATURES:
        if head.startswith(magic):
            return kind
    return "tar" if is_tar(head) else None


def refuse_foreign(head: bytes, label: str) -> None:
    """DataError for what is known, and not read."""
    for magic, what, advice in FOREIGN:
        if head.startswith(magic):
            raise DataError(f"{label} is {what}, not a UTF-8 text: {advice.format(path=label)}")


def inner_name(name: str) -> str:
    """The name of what a compressed file holds: `a.jsonl.gz` holds `a.jsonl`."""
    return _ENDING.sub("", _TARS.sub(".tar", name))


def is_tar(head: bytes) -> bool:
    """By its signature at 257; a tar of before 1988 has none, but its header adds up."""
    if len(head) < HEAD or not head[0]:
        return False
    if head[257:262] == b"ustar":
        return True
    stored = head[148:156].strip(b" \0")
    if not re.fullmatch(rb"[0-7]+", stored):
        return False
    return int(stored, 8) == sum(head[:148]) + 8 * ord(" ") + sum(head[156:])


def _lzma(head: bytes, label: str) -> Format:
    """LZMA without a container: 1 byte lc + 9 (lp + 5 pb), 4 bytes dictionary size, and then

    lzma    8 bytes, the size when decompressed or -1; then data: 5 bytes or more, the first a 0
    pylzma  the data at once, which begins with a 0 too, and of a text never has four of them
    """
    size = int.from_bytes(head[5:13], "little")
    if len(head) > 5 and head[0] < 9 * 5 * 5:
        if len(head) >= 18 and head[13] == 0 and (size == 2**64 - 1 or size < 1 << 40):
            return "lzma"
        if head[5] == 0:
            return "pylzma"
    raise DataError(f"{label} is called .lzma, but does not begin as lzma or pylzma write it")
