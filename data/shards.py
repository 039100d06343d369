"""Token shards: ids on disk as they are in memory, behind a small header, read by memory map.

    offset  bytes  what, little-endian
         0      8  b"TTTOKENS"
         8      4  version: 1
        12      4  bytes per token: 1, 2 or 4 (uint8, uint16, uint32); 8 (int64) in an index
        16      8  count of tokens; 0 until the shard is complete
        24     32  sha256 of the tokenizer (its `hash`)
        56      8  zeros
        64         the tokens

An index is a shard of positions: where each document begins, counted over all shards of a part.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError

MAGIC, VERSION = b"TTTOKENS", 1
LAYOUT = struct.Struct("<8sIIQ32s8x")
DTYPES: dict[int, np.dtype] = {size: np.dtype(name) for size, name in
                               ((1, "u1"), (2, "<u2"), (4, "<u4"), (8, "<i8"))}
AROUND = 1 << 16  # bytes that Linux maps around a page that is touched
MAPPED = 1 << 27  # bytes mapped before they are given back


@dataclass(frozen=True)
class Header:
    """What a shard says of itself."""

    dtype: np.dtype
    count: int
    tokenizer: str  # sha256 in hex

    def pack(self) -> bytes:
        sha = bytes.fromhex(self.tokenizer)
        return LAYOUT.pack(MAGIC, VERSION, self.dtype.itemsize, self.count, sha)


def read_header(path: Path) -> Header:
    """The header of a shard, held against the size of its file. Raises DataError, saying why."""
    try:
        with path.open("rb") as file:
            raw = file.read(LAYOUT.size)
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if not raw.startswith(MAGIC):
        raise DataError(
            f"{path} is not a token shard: it does not begin with {MAGIC.decode()}. Make "
            f"some with python -m data.prepare; nanoGPT's headerless .bin is read by open_bin"
        )
    if len(raw) < LAYOUT.size:
        raise DataError(f"{path} is cut short: its header alone has {LAYOUT.size} bytes")
    _, version, itemsize, count, sha = LAYOUT.unpack(raw)
    if version > VERSION:
        raise DataError(
            f"{path} has version {version}, and this program reads up to {VERSION}: it was written "
            f"by a newer one"
        )
    if version < 1 or itemsize not in DTYPES:
        raise DataError(f"{path} is damaged: version {version}, {itemsize} bytes per token")
    if size != LAYOUT.size + itemsize * count:
        raise DataError(
            f"{path} is unfinished or damaged: its header counts {count:,} tokens, which makes "
            f"{LAYOUT.size + itemsize * count:,} bytes; it has {size:,}. Prepare it again"
        )
    return Header(DTYPES[itemsize], count, sha.hex())


class Tokens:
    """Arrays of ids, in memory or mapped, as one sequence: `len`, indexing, slices, `windows`.

    documents: (D,) int64, where each document begins; None where that is not known.
    vocab_size: ids read by `windows` must lie below it; None to let all pass.
    """

    ndim = 1

    def __init__(
        self,
        parts: Sequence[np.ndarray],
        *,
        dtype: np.dtype | None = None,
        documents: np.ndarray | None = None,
        vocab_size: int | None = None,
        names: Sequence[object] = (),
        mappings: Sequence[mmap.mmap] = (),
    ) -> None:
        self.parts, self.documents, self.vocab_size = list(parts), documents, vocab_size
        self.dtype = np.dtype(dtype or (parts[0].dtype if len(parts) else np.uint16))
        self.names = list(names) or ["the tokens"] * len(self.parts)
        self._ends = list(accumulate(len(part) for part in self.parts))
        self._mappings, self._mapped = mappings, 0

    @classmethod
    def open(
        cls,
        paths: Sequence[str | Path],
        *,
        dtype: np.dtype | None = None,
        tokenizer: str | None = None,
        index: str | Path | None = None,
        vocab_size: int | None = None,
    ) -> Tokens:
        """Shards, in order. Nothing is read but their headers.

        dtype, tokenizer: its hash: what all must have. index: the file of where documents begin.
        Raises DataError for a shard that is missing, foreign, unfinished, cut short, of a newer
        version, or made with another tokenizer.
        """
        files = [Path(path) for path in paths]
        headers = [read_header(path) for path in files]
        wanted = tokenizer or (headers[0].tokenizer if headers else "")
        for path, header in zip(files, headers):
            if header.tokenizer != wanted:
                raise DataError(
                    f"{path} was made with tokenizer {header.tokenizer[:12]}..., not with "
                    f"{wanted[:12]}...: its ids mean other text"
                )
            if header.dtype != (dtype or headers[0].dtype) or header.dtype.kind == "i":
                raise DataError(
                    f"{path} holds {header.dtype}, not the {dtype or 'ids'} of this corpus: it is "
                    f"an index, or a shard of another corpus"
                )
        mapped = [map_file(p, h.dtype, h.count, LAYOUT.size) for p, h in zip(files, headers)]
        documents = None
        if index is not None:
            header = read_header(Path(index))
            documents, _ = map_file(Path(index), header.dtype, header.count, LAYOUT.size)
        return cls(
            [part for part, _ in mapped],
            dtype=dtype,
            documents=documents,
            vocab_size=vocab_size,
            names=files,
            mappings=[mapping for _, mapping in mapped],
        )

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, key: int | slice) -> Any:
        """One id, or a slice: a view where it lies within one part, else a copy."""
        if not isinstance(key, slice):
            position = range(len(self))[key]
            part = bisect_right(self._ends, position)
            return self.parts[part][position - self._ends[part]]  # counted from the part's end
        start, stop, step = key.indices(len(self))
        if step != 1:
            raise IndexError(f"a slice of tokens has step 1, not {step}")
        pieces = []
        while start < stop:
            part = bisect_right(self._ends, start)
            begin = self._ends[part] - len(self.parts[part])
            piece = self.parts[part][start - begin : stop - begin]
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, self.dtype), *pieces])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of them in memory."""
        return np.array(self[:], dtype=dtype)

    def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """(len(starts), length) int64: the ids from each start on, read in order of position."""
        out = np.empty((len(starts), length), np.int64)
        for row in np.argsort(starts):
            start = int(starts[row])
            out[row] = self[start : start + length]
        if self.vocab_size is not None and out.size and out.max() >= self.vocab_size:
            row, column = np.unravel_index(out.argmax(), out.shape)
            raise self.too_large(int(starts[row] + column))
        self._forget(len(starts) * (AROUND + length * self.dtype.itemsize))
        return out

    def document_ids(self, starts: np.ndarray, length: int) -> np.ndarray:
        """(len(starts), length) int64: which document each token of a window is of, from 0 on.

        Numbers count within a window. Attention that keeps to one document lets position i see j
        where their numbers are equal: `ids[:, :, None] == ids[:, None, :]`.
        """
        documents = self.known_documents()
        out = np.empty((len(starts), length), np.int64)
        for row, start in enumerate(np.asarray(starts).tolist()):
            inside = np.searchsorted(documents, [start + 1, start + length])
            begins = documents[slice(*inside)]
            out[row] = np.searchsorted(begins, np.arange(start, start + length), side="right")
        return out

    def known_documents(self) -> np.ndarray:
        """`documents`; raises DataError where they were not recorded."""
        if self.documents is None:
            raise DataError(
                "it is not recorded where the documents of these tokens begin: prepare them with "
                "python -m data.prepare, or leave documents as 'ignore'"
            )
        return self.documents

    def too_large(self, position: int) -> DataError:
        """What is wrong with the id at `position`, which is not below vocab_size."""
        part = bisect_right(self._ends, position)
        return DataError(
            f"{self.names[part]}: token {position:,} is {self[position]}, and the vocabulary has "
            f"{self.vocab_size:,}: it is damaged, or was made with another tokenizer"
        )

    def verify(self) -> None:
        """Read every id, and raise DataError for one that is not below vocab_size."""
        begin = 0
        for part, end in zip(self.parts, self._ends):
            for at in range(0, len(part), AROUND):
                piece = part[at : at + AROUND]
                if self.vocab_size is not None and piece.max() >= self.vocab_size:
                    raise self.too_large(begin + at + int(piece.argmax()))
                self._forget(piece.nbytes)
            begin = end

    def _forget(self, n_bytes: int) -> None:
        """Hand mapped pages back now and then: they stay in the page cache, not in the process."""
        self._mapped += n_bytes
        if self._mapped > MAPPED:
            for mapping in self._mappings:
                advise(mapping, "MADV_DONTNEED")
            self._mapped = 0


def open_bin(
    path: str | Path, dtype: Any = np.uint16, *, vocab_size: int | None = 50257
) -> Tokens:
    """A headerless file of ids, such as nanoGPT's train.bin: that it is one is the caller's word.

    Raises DataError where it is missing, a shard with a header, or no whole number of ids.
    """
    path, dtype = Path(path), np.dtype(dtype).newbyteorder("<")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            headed = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if headed:
        raise DataError(f"{path} is a shard with a header: open it with data.shards.Tokens.open")
    if size % dtype.itemsize:
        raise DataError(f"{path} has {size:,} bytes, which is no whole number of {dtype}")
    if not size:
        return Tokens([], dtype=dtype, vocab_size=vocab_size)
    part, mapping = map_file(path, dtype, size // dtype.itemsize)
    return Tokens([part], vocab_size=vocab_size, names=[path], mappings=[mapping])


def map_file(
    path: Path, dtype: np.dtype, count: int, offset: int = 0
) -> tuple[np.ndarray, mmap.mmap]:
    """A read-only array over a file, and its mapping; random access reads no more than it asks."""
    try:
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DataError(f"{path} cannot be mapped: {error.strerror}") from None
    advise(mapping, "MADV_RANDOM")
    return np.frombuffer(mapping, dtype, count, offset), mapping


def advise(mapping: mmap.mmap, advice: str) -> None:
    """Tell the kernel, where it can be told (not on Windows)."""
    if hasattr(mmap, advice):
        mapping.madvise(getattr(mmap, advice))
