"""Files as memory: arrays over them are read when they are touched, and can be let go again."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import CheckpointError


def mapped(path: str | Path) -> mmap.mmap:
    """The file's bytes, read-only, without reading them yet. Raises CheckpointError by name."""
    try:
        with Path(path).open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except ValueError:
        raise CheckpointError(f"{path}: is empty") from None


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[Any, int]]:
    """(the file's bytes as a binary file, their number)"""
    data = mapped(path)
    with data:
        yield data, len(data)


def release(array: np.ndarray) -> None:
    """Give back the memory that reading a mapped array has taken; it can be read again."""
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` once it is complete and on the disk."""
    temporary = path.with_name(f".unfinished-{path.name}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(f"{path}: could not be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
