"""TensorFlow's checkpoints (V2, "tensor bundles"): the variables, without TensorFlow.

    NAME.index                 a LevelDB table: variable name -> where it is, sorted by name
    NAME.data-00000-of-00001   the numbers, row by row

The table: blocks, then a footer of 48 bytes that says where the index block is. A block is a list
of entries `shared, unshared, size` (varints), the key's last `unshared` bytes (its first `shared`
are the previous key's), the value; after them the restart points (uint32) and their number; behind
the block its compression (one byte: 0, none) and a checksum. The index block's values are the
`offset, size` of the blocks; a block's are protocol buffers, BundleEntryProto; the empty key's is
BundleHeaderProto.

Sources: leveldb/doc/table_format.md, tensorflow/core/protobuf/tensor_bundle.proto, types.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from .files import mapped
from .plain import BFLOAT16

TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48
CRC_SHIFT = 0xA282EAD8  # checksums are stored rotated and shifted by this
DTYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 4: np.dtype("u1"),
    5: np.dtype("<i2"), 6: np.dtype("i1"), 9: np.dtype("<i8"), 10: np.dtype("?"),
    14: BFLOAT16, 19: np.dtype("<f2"),
}  # fmt: skip


class Damaged(Exception):
    """What is wrong with the index; `load_tensorflow` says in which file."""


def load_tensorflow(prefix: str | Path) -> dict[str, np.ndarray]:
    """The variables of the checkpoint PREFIX.index, PREFIX.data-*, read-only over mapped files.

    raises  CheckpointError naming file and variable
    """
    index = Path(f"{prefix}.index")
    data = mapped(index)
    with data:
        try:
            entries = {name.decode(): fields(value) for name, value in table(data[:])}
        except Damaged as error:
            raise CheckpointError(f"{index}: is no TensorFlow index: {error}") from None
        except (IndexError, ValueError) as error:
            raise CheckpointError(f"{index}: is truncated or damaged: {error}") from None
    header = entries.pop("", {})
    if header.get(2, 0):
        raise CheckpointError(f"{index}: is big-endian, which is not read")
    shards: dict[int, Any] = {}
    count = header.get(1, 1)

    def variable(name: str, entry: dict[int, Any]) -> np.ndarray:
        dtype, shard = DTYPES.get(entry.get(1, 0)), entry.get(3, 0)
        if 7 in entry or dtype is None:
            what = "is partitioned" if 7 in entry else f"has TensorFlow's dtype {entry.get(1, 0)}"
            raise CheckpointError(f"{index}: {name} {what}, which is not read")
        if shard not in shards:
            shards[shard] = mapped(f"{prefix}.data-{shard:05d}-of-{count:05d}")
        shape = [fields(dim).get(1, 0) for dim in repeated(entry.get(2, b""), 2)]
        offset, size = entry.get(4, 0), entry.get(5, 0)
        if prod(shape) * dtype.itemsize != size or len(shape) > 64:
            raise CheckpointError(f"{index}: {name}: {size:,} bytes do not make {shape} of {dtype}")
        if offset + size > len(shards[shard]):
            raise CheckpointError(
                f"{prefix}.data-{shard:05d}-of-{count:05d}: is truncated: {name} ends at byte "
                f"{offset + size:,}, the file at {len(shards[shard]):,}"
            )
        return np.frombuffer(shards[shard], dtype, prod(shape), offset).reshape(shape)

    return {name: variable(name, entry) for name, entry in entries.items()}


def table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of every entry of a LevelDB table."""
    if len(data) < FOOTER or data[-8:] != TABLE_MAGIC:
        raise Damaged("its last 8 bytes are not those of a table")
    at = len(data) - FOOTER
    for _ in range(2):
        _, at = varint(data, at)  # the metaindex block, which is empty
    begin, at = varint(data, at)
    size, at = varint(data, at)
    for _, handle in block(data, begin, size):
        begin, at = varint(handle, 0)
        size, _ = varint(handle, at)
        yield from block(data, begin, size)


def block(data: bytes, begin: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    content, trailer = data[begin : begin + size], data[begin + size : begin + size + 5]
    if size < 4 or len(trailer) < 5:
        raise Damaged("a block goes beyond the file")
    if trailer[0]:
        raise Damaged("its blocks are compressed, as TensorFlow's own are not")
    if masked_crc(content + trailer[:1]) != int.from_bytes(trailer[1:], "little"):
        raise Damaged("a block's checksum is another")
    restarts = int.from_bytes(content[-4:], "little")
    end = size - 4 * (restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = varint(content, at)
        unshared, at = varint(content, at)
        length, at = varint(content, at)
        if at + unshared + length > end:
            raise Damaged("an entry goes beyond its block")
        key = key[:shared] + content[at : at + unshared]
        at += unshared
        yield key, content[at : at + length]
        at += length


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(a number in groups of seven bits, the lowest first; where it ends)"""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise Damaged("a number without an end")


def parse(message: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a protocol buffer: numbers, or bytes for what is nested."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        if tag & 7 == 0:
            value, at = varint(message, at)
        elif tag & 7 == 2:
            length, at = varint(message, at)
            value, at = message[at : at + length], at + length  # type: ignore[assignment]
        elif tag & 7 in (1, 5):
            length = 8 if tag & 7 == 1 else 4
            value, at = int.from_bytes(message[at : at + length], "little"), at + length
        else:
            raise Damaged(f"a field of wire type {tag & 7}")
        if at > len(message):
            raise Damaged("a field goes beyond its message")
        yield tag >> 3, value


def fields(message: bytes) -> dict[int, Any]:
    return dict(parse(message))


def repeated(message: bytes, number: int) -> list[Any]:
    return [value for field, value in parse(message) if field == number]


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated right by 15 bits and shifted: LevelDB's spelling."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + CRC_SHIFT) & 0xFFFFFFFF


def crc_table() -> list[int]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return found


CRC_TABLE = crc_table()
