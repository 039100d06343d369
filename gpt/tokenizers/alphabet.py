"""GPT-2's way to write bytes as characters that have a shape, and so its order of the 256 bytes."""

from __future__ import annotations

PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # of Latin-1: themselves
BYTES = PRINTABLE + sorted(set(range(256)) - set(PRINTABLE))  # the byte of each id 0 .. 255
CHARS = [chr(byte) for byte in PRINTABLE] + [chr(0x100 + i) for i in range(256 - len(PRINTABLE))]

_char_of = dict(zip(BYTES, CHARS))
_byte_of = dict(zip(CHARS, BYTES))


def to_printable(token: bytes) -> str:
    """b" the" as "\\u0120the"."""
    return "".join(map(_char_of.__getitem__, token))


def from_printable(text: str) -> bytes:
    """Undo `to_printable`. Raises KeyError for a character that stands for no byte."""
    return bytes(map(_byte_of.__getitem__, text))
