"""UTF-8 that any Python string survives: lone surrogates, which UTF-8 proper lacks, included."""

from __future__ import annotations

import codecs
import re

from gpt.tokenizers.errors import TokenizerError

SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


def encode_utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def decode_utf8(data: bytes, errors: str = "replace") -> str:
    """Undo `encode_utf8`. errors: of bytes that it never writes: replace, strict or ignore."""
    if errors not in ("replace", "strict", "ignore"):
        raise TokenizerError(f"errors is {errors!r}: it must be replace, strict or ignore")
    try:
        return data.decode("utf-8", f"surrogate-or-{errors}")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"byte {error.start:,} (0x{data[error.start]:02x}) is not UTF-8 ({error.reason}): "
            f"the ids end or begin within a character; errors='replace' puts U+FFFD there"
        ) from None


def complete(data: bytes) -> int:
    """How many bytes of `data` end with a whole character: at most 3 less than all."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:  # a first byte: it says how many follow
            needed = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return len(data) - back if needed > back else len(data)
        if byte < 0x80:
            break
    return len(data)


def _surrogate_or(errors: str) -> None:
    otherwise = codecs.lookup_error(errors)

    def handle(error: UnicodeError) -> tuple[str | bytes, int]:
        assert isinstance(error, UnicodeDecodeError)
        if found := SURROGATE.match(error.object, error.start):
            return found[0].decode("utf-8", "surrogatepass"), found.end()
        return otherwise(error)

    codecs.register_error(f"surrogate-or-{errors}", handle)


for _errors in ("replace", "strict", "ignore"):
    _surrogate_or(_errors)
