"""Shards and indexes as they grow, and the record of how far they are.

The record is replaced, as a whole, after what it counts has reached the disk. Whatever a file holds
beyond its count is what a kill left behind: it is cut off, and written again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from data.download import sha256_of
from data.errors import DataError
from data.shards import DTYPES, LAYOUT, Header

NEW = ".new"  # how the name of a file ends until it is whole


class Growing:
    """A shard that is being written: its header counts nothing until it is complete."""

    def __init__(self, path: Path, dtype: np.dtype, tokenizer: str, count: int = 0) -> None:
        """`count`: how much of a file begun earlier is to be kept."""
        self.path, self.dtype, self.tokenizer, self.count = path, dtype, tokenizer, count
        size = LAYOUT.size + count * dtype.itemsize
        if not count:
            self.file = path.open("w+b")
            self.file.write(self._header(0))
        elif not path.exists() or path.stat().st_size < size:
            raise DataError(f"{path} is not as it was left: delete {path.parent} and begin again")
        else:
            self.file = path.open("r+b")
            self.file.truncate(size)
            self.file.seek(size)

    def append(self, values: np.ndarray) -> None:
        self.file.write(values.astype(self.dtype, copy=False).tobytes())
        self.count += len(values)

    def sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def complete(self) -> dict[str, Any]:
        """Its entry in the manifest."""
        self.file.seek(0)
        self.file.write(self._header(self.count))
        self.sync()
        self.file.close()
        return {
            "file": self.path.name,
            "count": self.count,
            "size": self.path.stat().st_size,
            "sha256": sha256_of(self.path),
        }

    def _header(self, count: int) -> bytes:
        return Header(self.dtype, count, self.tokenizer).pack()


class Side:
    """The shards and the index of one side."""

    def __init__(
        self, folder: Path, name: str, dtype: np.dtype, tokenizer: str, shard_tokens: int,
        state: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        state = state or {"documents": 0, "tokens": 0, "bytes": 0, "shards": []}
        self.folder, self.name, self.dtype, self.tokenizer = folder, name, dtype, tokenizer
        self.shard_tokens = shard_tokens
        self.tokens, self.bytes, self.shards = state["tokens"], state["bytes"], state["shards"]
        begun = self.tokens - sum(shard["count"] for shard in self.shards)
        self._shard = self._grow(begun) if begun else None
        self._index = Growing(folder / f"{name}.index", DTYPES[8], tokenizer, state["documents"])

    @property
    def documents(self) -> int:
        return self._index.count

    def append(self, ids: np.ndarray, begins: np.ndarray, n_bytes: int) -> None:
        """begins: where in `ids` documents begin. n_bytes: of text that they are the ids of."""
        self._index.append(begins + self.tokens)
        self.tokens += len(ids)
        self.bytes += n_bytes
        while len(ids):
            self._shard = self._shard or self._grow()
            room = self.shard_tokens - self._shard.count
            self._shard.append(ids[:room])
            ids = ids[room:]
            if self._shard.count == self.shard_tokens:
                self._close_shard()

    def sync(self) -> None:
        self._index.sync()
        if self._shard:
            self._shard.sync()

    def state(self) -> dict[str, Any]:
        return {"documents": self.documents, "tokens": self.tokens, "bytes": self.bytes,
                "shards": self.shards}  # fmt: skip

    def complete(self) -> dict[str, Any]:
        """Its part of the manifest."""
        if self._shard:
            self._close_shard()
        return self.state() | {"index": self._index.complete()}

    def close(self) -> None:
        """Let go of files that will not be completed now."""
        for growing in (self._shard, self._index):
            if growing:
                with suppress(OSError):  # of a full disk: it has been reported
                    growing.file.close()

    def _grow(self, count: int = 0) -> Growing:
        path = self.folder / f"{self.name}-{len(self.shards):05d}.tokens"
        return Growing(path, self.dtype, self.tokenizer, count)

    def _close_shard(self) -> None:
        assert self._shard
        self.shards.append(self._shard.complete())
        self._shard = None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a JSON file, as a whole or not at all."""
    temporary = path.with_name(path.name + NEW)
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time, where the system has such locks; a killed one leaves none behind."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataError(f"{folder}: another python -m data.prepare is writing it") from None
    finally:
        os.close(handle)
