"""A TensorFlow checkpoint, written by the formats' documents: what load_tensorflow must read."""

import struct

from tinytensor.serialize.tensorflow import masked_crc


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def table_block(entries):
    """Entries that share what their keys have in common; one restart point."""
    out, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        before = key
    out += struct.pack("<II", 0, 1)
    return out + b"\0" + struct.pack("<I", masked_crc(out + b"\0"))


def write_bundle(prefix, arrays, per_block=3):
    """A checkpoint by the formats' documents; several blocks, so that the index is used."""
    data, entries = b"", [(b"", field(1, 1) + field(3, field(1, 1)))]
    for name, array in sorted(arrays.items()):
        shape = b"".join(field(2, field(1, n)) for n in array.shape)
        code = {"f4": 1, "f8": 2, "i8": 9, "f2": 19}[array.dtype.str[1:]]
        entries.append((name.encode(), field(1, code) + field(2, shape) + field(4, len(data))
                        + field(5, array.nbytes)))  # fmt: skip
        data += array.tobytes()
    out, index = b"", []
    for i in range(0, len(entries), per_block):
        block = table_block(entries[i : i + per_block])
        last = entries[i : i + per_block][-1][0]
        index.append((last, varint(len(out)) + varint(len(block) - 5)))
        out += block
    handles = b""
    for block in (table_block([]), table_block(index)):
        handles += varint(len(out)) + varint(len(block) - 5)
        out += block
    footer = handles.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")
    prefix.with_name(prefix.name + ".index").write_bytes(out + footer)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)
