"""Drawings of how a text becomes tokens."""

from __future__ import annotations

from collections.abc import Sequence

from gpt.tokenizers.utf8 import decode_utf8


class Drawing(str):
    """Text that an interpreter and a notebook show as it is, not quoted."""

    def __repr__(self) -> str:
        return str(self)


def visible(token: bytes) -> str:
    """A token on paper: a space is a middle dot; what has no shape, and stray bytes, escaped."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        text = decode_utf8(token, "ignore")
        if not text or text.encode("utf-8", "surrogatepass") != token:
            return "".join(f"\\x{byte:02x}" for byte in token)
    return "".join(
        "·" if c == " " else c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in text
    )


def columns(tokens: Sequence[tuple[bytes, int]], width: int = 100) -> Drawing:
    """Tokens over their ids, in as many rows as needed."""
    rows, above, below = list[str](), "", ""
    for token, id in tokens:
        text, number = visible(token), str(id)
        size = max(len(text), len(number)) + 2
        if above and len(above) + size > width:
            rows += [above.rstrip(), below.rstrip(), ""]
            above = below = ""
        above, below = above + text.ljust(size), below + number.ljust(size)
    return Drawing("\n".join([*rows, above.rstrip(), below.rstrip()]))
