"""The arrays of a safetensors file, mapped: pages are read when they are touched, none twice."""

from pathlib import Path

import numpy as np
from safetensors import safe_open

DTYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4",
          "I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"}


def read_mapped(path: Path) -> dict[str, np.ndarray]:
    """Read-only arrays by name. Raises SafetensorError, ValueError for a dtype NumPy has not."""
    with safe_open(path, framework="numpy") as file:  # checks names, shapes, offsets, sizes
        data = np.memmap(path, np.uint8, "r").view(np.ndarray)
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")  # the header's length, and it
        arrays = {}
        for name in file.offset_keys():  # arrays lie one after the other, without gaps
            part = file.get_slice(name)
            if part.get_dtype() not in DTYPES:
                raise ValueError(f"{name} is {part.get_dtype()}, which NumPy does not have")
            dtype, shape = np.dtype(DTYPES[part.get_dtype()]), part.get_shape()
            end = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            arrays[name] = data[start:end].view(dtype).reshape(shape)
            start = end
    return arrays
