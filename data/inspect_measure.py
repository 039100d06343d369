"""What is measured of a corpus as it streams by, in memory that does not grow with it."""

from __future__ import annotations

import hashlib
import heapq
import unicodedata
from array import array
from collections import Counter
from typing import Any
from zlib import crc32

import numpy as np

from data.archives import Document

BATCH = 1 << 20  # characters counted at a time
MAX_HASHES = 1 << 23  # 64 MB each, of documents and of lines


class Symbols:
    """How often each code point occurs."""

    def __init__(self) -> None:
        self.counts = np.zeros(0x110000, np.int64)
        self.waiting: list[str] = []
        self.n_waiting = 0

    def add(self, text: str) -> None:
        self.waiting.append(text)
        self.n_waiting += len(text)
        if self.n_waiting >= BATCH:
            self._count()

    def _count(self) -> None:
        codes = np.frombuffer("".join(self.waiting).encode("utf-32-le"), np.dtype("<u4"))
        counts = np.bincount(codes)  # as long as the highest code point, at most 1.1 million
        self.counts[: len(counts)] += counts
        self.waiting, self.n_waiting = [], 0

    def table(self) -> dict[str, int]:
        """Every character that occurs, the most frequent first."""
        self._count()
        codes = np.flatnonzero(self.counts)
        order = codes[np.argsort(-self.counts[codes], kind="stable")]
        return {chr(code): int(self.counts[code]) for code in order}


class Repeats:
    """How many items were there before. Exact for the first 8 million; of more, those of one hash
    in 2, 4, 8, ... are counted, each with all its repeats, and stand for the others: `one_in`."""

    def __init__(self) -> None:
        self.hashes = array("Q")
        self.one_in = 1

    def add(self, items: list[bytes]) -> None:
        if self.one_in > 1:  # most are not looked at any further
            items = [item for item in items if crc32(item) % self.one_in == 0]
        self.add_hashes(b"".join([hash_of(item) for item in items]))

    def add_hashes(self, hashes: bytes) -> None:
        """hashes: 8 bytes for each item, as `hash_of` gives them."""
        self.hashes.frombytes(hashes if self.one_in == 1 else self._chosen(hashes))
        while len(self.hashes) >= MAX_HASHES:
            self.one_in *= 2
            self.hashes = array("Q", self._chosen(self.hashes))

    def _chosen(self, hashes: bytes | array) -> bytes:
        numbers = np.frombuffer(hashes, "<u8")
        return numbers[numbers % np.uint64(self.one_in) == 0].tobytes()

    def count(self) -> int:
        """Items equal to an earlier one; an estimate where `one_in` is not 1."""
        kept = np.asarray(self.hashes)
        return (len(kept) - len(np.unique(kept))) * self.one_in


class Sample:
    """Documents of at most `size` bytes in all, those of the lowest hashes: a fair choice that does
    not depend on the order; and all of the corpus if it is no larger."""

    def __init__(self, size: int) -> None:
        self.size, self.held = size, 0
        self.heap: list[tuple[int, int, str, int]] = []  # the highest hash first
        self.whole = True

    def add(self, place: int, text: str, hash: bytes, n_bytes: int) -> None:
        upside_down = ~int.from_bytes(hash, "little")
        heapq.heappush(self.heap, (upside_down, place, text, n_bytes))
        self.held += n_bytes
        while self.held > self.size and len(self.heap) > 1:
            self.held -= heapq.heappop(self.heap)[3]
            self.whole = False

    def text(self) -> str:
        """In the corpus's order; cut to `size` where a single document is longer."""
        texts = [text for _, _, text, _ in sorted(self.heap, key=lambda kept: kept[1])]
        whole = "\n".join(texts).encode()
        self.whole = self.whole and len(whole) <= self.size + len(texts)
        return whole[: self.size + len(texts)].decode("utf-8", "ignore")


class Measure:
    """All of it: `add` every document, then `result`."""

    def __init__(self, sample_bytes: int) -> None:
        self.symbols, self.sample = Symbols(), Sample(sample_bytes)
        self.documents, self.lines = Repeats(), Repeats()
        self.lengths: Counter[int] = Counter()
        self.n_bytes = self.n_chars = self.n_lines = self.n_pieces = self.not_nfc = 0
        self._begin()

    def _begin(self) -> None:
        self.crc, self.hash = 0, hashlib.blake2b(digest_size=4)  # together: `hash_of` the document
        self.length, self.nfc, self.tail = 0, True, b""

    def add(self, document: Document) -> None:
        """The next document, or the next piece of one."""
        text = document.text
        raw = text.encode()
        self.n_bytes += len(raw)
        self.n_chars += len(text)
        self.symbols.add(text)
        self.crc = crc32(raw, self.crc)
        self.hash.update(raw)
        self.length += len(text)
        self.nfc = self.nfc and (text.isascii() or unicodedata.is_normalized("NFC", text))
        if text:
            self.sample.add(self.n_pieces, text, hash_of(raw), len(raw))
            self.n_pieces += 1
        *lines, self.tail = (self.tail + raw).split(b"\n")
        self._add_lines(lines)
        if not document.more:
            self._add_lines([self.tail])
            self.lengths[self.length] += 1
            self.documents.add_hashes(self.crc.to_bytes(4, "little") + self.hash.digest())
            self.not_nfc += not self.nfc
            self._begin()

    def _add_lines(self, lines: list[bytes]) -> None:
        texts = list(filter(None, map(bytes.strip, lines)))
        self.n_lines += len(texts)
        self.lines.add(texts)

    def result(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        symbols = self.symbols.table()
        n_documents = self.lengths.total()
        return {
            "bytes": self.n_bytes,
            "characters": self.n_chars,
            "documents": n_documents,
            "lines": self.n_lines,
            "symbols": symbols,
            "odd": odd(symbols),
            "not_nfc": self.not_nfc,
            "lengths": lengths(self.lengths),
            "duplicate_documents": self.documents.count(),
            "duplicate_documents_one_in": self.documents.one_in,
            "duplicate_lines": self.lines.count(),
            "duplicate_lines_one_in": self.lines.one_in,
        }


def hash_of(data: bytes) -> bytes:
    """8 bytes. The lower half is a CRC, quick to choose by; the upper tells the chosen apart."""
    return crc32(data).to_bytes(4, "little") + hashlib.blake2b(data, digest_size=4).digest()


def lengths(counts: Counter[int]) -> dict[str, float]:
    """The distribution of lengths in characters: extremes, mean, percentiles."""
    sizes = np.array(sorted(counts), np.int64)
    n = np.array([counts[size] for size in sizes.tolist()], np.int64)
    below = np.cumsum(n)
    out: dict[str, float] = {"shortest": int(sizes[0])}
    for percent in (1, 10, 50, 90, 99):  # the smallest length that so many percent do not exceed
        out[f"p{percent}"] = int(sizes[np.searchsorted(below, below[-1] * percent / 100)])
    out["longest"] = int(sizes[-1])
    out["mean"] = round(float((sizes * n).sum() / below[-1]), 1)
    return out


ODD = {
    "byte-order mark or zero-width no-break space": "\ufeff",
    "carriage return": "\r",
    "zero width": "\u200b\u200c\u200d\u2060",
    "direction mark": "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    "soft hyphen": "\u00ad",
    "no-break or other odd space": "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
                                   "\u2009\u200a\u202f\u205f\u3000\u1680",
    "line or paragraph separator": "\u0085\u2028\u2029",
    "replacement character": "\ufffd",
}  # fmt: skip
_KINDS = {char: kind for kind, chars in ODD.items() for char in chars}
_CATEGORIES = {"Cc": "control", "Co": "private use", "Cn": "unassigned"}


def odd(symbols: dict[str, int]) -> dict[str, dict[str, int]]:
    """The characters that a model is seldom meant to learn: {kind: {character: count}}."""
    found: dict[str, dict[str, int]] = {}
    for char, count in symbols.items():
        kind = _KINDS.get(char) or _CATEGORIES.get(unicodedata.category(char))
        if kind and char not in "\n\t":
            found.setdefault(kind, {})[char] = count
    return found
