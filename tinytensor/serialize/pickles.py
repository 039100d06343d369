"""Pickles of arrays and plain containers: one file, and no code in it. docs/pickle.md says why."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from .files import opened, whole_file
from .machine import Machine
from .plain import Refused, key

PLAIN = (bool, int, float, complex, str, bytes, bytearray, type(None))
ARRAYS = "biufcSU"  # dtype kinds


def save_pickle(path: str | Path, mapping: Mapping[str, Any]) -> None:
    """Write arrays, Tensors (as arrays) and plain containers, for `load_pickle` or any Python.

    In protocol 5, flushed to the disk and then renamed into place: `path` is never half a file.
    Raises CheckpointError naming what cannot be written, by its path in the mapping.
    """
    path = Path(path)
    try:
        plain_mapping = plain(mapping, "")
    except RecursionError:
        raise CheckpointError(f"{path}: cannot save a mapping that contains itself") from None
    with whole_file(path) as file:
        pickle.dump(plain_mapping, file, protocol=5)


def load_pickle(path: str | Path) -> Any:
    """What `save_pickle` or any pickle of arrays and plain containers holds, of any protocol.

    Arrays (of numbers and text), NumPy scalars, None, bool, int, float, complex, str, bytes,
    bytearray, list, tuple, dict, OrderedDict, set, frozenset. Nothing is imported or called:
    any other name in the file raises CheckpointError with that name and its position.
    """
    with opened(path) as (file, size):
        value = Machine(str(path), size).run(file)
        if more := size - file.tell():
            raise CheckpointError(f"{path}: {more:,} bytes follow the end of the pickle")
    return value


def as_key(value: Any, where: str) -> Any:
    try:
        return key(value)
    except Refused as error:
        raise CheckpointError(f"{where or 'the mapping'}: {error}") from None


def plain(value: Any, where: str) -> Any:
    """A copy in plain containers, with arrays for Tensors."""
    if type(value) in PLAIN:
        return value
    if hasattr(value, "numpy"):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in ARRAYS:
            raise CheckpointError(
                f"{where or 'the value'} is an array of {value.dtype}, which a pickle of plain "
                "numbers cannot hold: convert it, e.g. with .float()"
            )
        return value
    if isinstance(value, Mapping):
        return {
            as_key(name, where): plain(item, f"{where}[{name!r}]") for name, item in value.items()
        }
    if isinstance(value, set | frozenset):
        return type(value)(as_key(item, where) for item in value)
    if isinstance(value, list | tuple):
        items = [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    raise CheckpointError(
        f"{where or 'the value'} is a {type(value).__name__}: only arrays and plain containers can "
        "be saved"
    )
