"""safetensors: a JSON header with names, dtypes, shapes and offsets, then the numbers.

    8 bytes      N, the header's length, little-endian
    N bytes      {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
                  "__metadata__": {"format": "pt"}}, padded with spaces
    the rest     the arrays, one behind the other without gaps, row by row, little-endian

Files are mapped in reading, and written some rows at a time: memory holds no second copy of the
arrays. bfloat16 needs no package. Source: github.com/huggingface/safetensors, README, Format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from .files import mapped, whole_file
from .plain import BFLOAT16, widen

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": BFLOAT16,
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
PIECE = 1 << 23  # bytes written at a time


def load_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays by name, read-only over the mapped file: unread until touched, see `release`.

    raises  CheckpointError naming file and array, if anything in the header is not as above
    """
    data = mapped(path)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, LONGEST_HEADER):
        raise CheckpointError(
            f"{path}: is no safetensors file, or a truncated one: its header would have {length:,} "
            f"bytes, the file has {len(data):,}"
        )
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is damaged: {error}") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its header is damaged: not an object")
    header.pop("__metadata__", None)
    start, end = 8 + length, 0
    found: dict[str, np.ndarray] = {}
    for name, (dtype, shape, begin, stop) in sorted(
        ((name, entry(path, name, about)) for name, about in header.items()),
        key=lambda item: item[1][2:],
    ):
        if begin != end or start + stop > len(data):
            what = "overlaps another or leaves a gap" if begin != end else "goes beyond the file"
            raise CheckpointError(f"{path}: {name}: its bytes {begin:,} to {stop:,} {what}: "
                                  "the file is truncated or damaged")  # fmt: skip
        count, end = prod(shape), stop
        found[name] = np.frombuffer(data, dtype, count, start + begin).reshape(shape)
    if start + end != len(data):
        raise CheckpointError(f"{path}: {len(data) - start - end:,} bytes follow the last array")
    return found


def entry(path: Any, name: str, about: Any) -> tuple[np.dtype, list[int], int, int]:
    """(dtype, shape, begin, end) of one array in the header, checked by themselves."""
    try:
        dtype, shape, (begin, end) = about["dtype"], about["shape"], about["data_offsets"]
        numbers = [*shape, begin, end]
    except (TypeError, KeyError, ValueError):
        raise CheckpointError(f"{path}: {name}: needs dtype, shape and data_offsets") from None
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(f"{path}: {name}: dtype {dtype!r} is none of {', '.join(DTYPES)}")
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
        raise CheckpointError(f"{path}: {name}: shape or offsets that are no counts: {numbers}")
    if len(shape) > 64 or prod(shape) * DTYPES[dtype].itemsize != end - begin:
        raise CheckpointError(
            f"{path}: {name}: shape {shape} of {dtype} does not fill bytes {begin:,} to {end:,}"
        )
    return DTYPES[dtype], shape, begin, end


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is there twice")
    return found


def save_safetensors(
    path: str | Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None,
    dtype: str | None = None,
) -> None:  # fmt: skip
    """Write arrays or Tensors by name; `path` appears whole or not at all.

    dtype   "float32", "float16" or "bfloat16" for all that are floating; None keeps theirs
    raises  CheckpointError for a dtype the format lacks, or a number too large for `dtype`
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, array in arrays.items():
        kind = stored_dtype(name, array, dtype)
        begin, end = end, end + prod(array.shape) * kind.itemsize
        header[name] = {"dtype": NAMES[kind], "shape": list(array.shape),
                        "data_offsets": [begin, end]}  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(Path(path)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, array in arrays.items():
            kind = stored_dtype(name, array, dtype)
            for rows in pieces(array.numpy(force=True) if hasattr(array, "numpy") else array):
                file.write(np.ascontiguousarray(converted(name, rows, kind)).tobytes())


def pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Some rows at a time, so that a converted copy of them is small."""
    if not array.ndim or array.nbytes <= PIECE:
        yield array
        return
    rows = max(1, PIECE * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def stored_dtype(name: str, array: Any, wanted: str | None) -> np.dtype:
    kind = np.dtype(array.dtype)
    if kind.name == "bfloat16":
        kind = BFLOAT16
    if wanted and (kind.kind == "f" or kind == BFLOAT16):
        kind = BFLOAT16 if wanted == "bfloat16" else np.dtype(wanted)
    kind = kind.newbyteorder("<") if kind != BFLOAT16 else kind
    if kind not in NAMES:
        raise CheckpointError(f"{name}: safetensors has no dtype {kind}")
    return kind


def converted(name: str, array: np.ndarray, kind: np.dtype) -> np.ndarray:
    """The array in its dtype of storage; what was finite stays finite."""
    if array.dtype == kind:
        return array.view("<u2") if kind == BFLOAT16 else array
    array = widen(array)
    if kind == BFLOAT16:
        return array.view("<u2") if array.dtype.name == "bfloat16" else narrow(array)
    with np.errstate(over="ignore"):
        small = array.astype(kind)
    if kind.kind == "f" and (np.isinf(small) & np.isfinite(array)).any():
        raise CheckpointError(
            f"{name}: holds {np.abs(array).max():.3g}, too large for {kind}: use bfloat16"
        )
    return small


def narrow(array: np.ndarray) -> np.ndarray:
    """float32 as the bits of bfloat16, rounded to nearest, ties to even. NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype("<u2")
