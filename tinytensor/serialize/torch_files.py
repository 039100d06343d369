"""PyTorch's files without PyTorch: `.pt` zips, the format before 1.6, and pickled modules.

zip (torch >= 1.6)   NAME/data.pkl, a pickle whose persistent ids name storages; NAME/data/KEY, the
                     numbers of each, stored as they are; NAME/byteorder, "little" or "big"
legacy               pickles one after the other: a magic number, the version, sizes, the object,
                     the keys of its storages; then per key a count (int64) and the numbers
pickled module       `pickle.dump(model, file)`: storages lie inside as legacy files of their own

Tensors become NumPy arrays, read-only over the mapped file where the format allows; bfloat16
has dtype BFLOAT16, see `plain.widen`. Modules and other objects become Stubs.
Sources: torch/serialization.py, torch/_utils.py.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from .files import mapped, release
from .machine import Machine
from .plain import BFLOAT16, Global, Refused, Stub, checked, shown, whole_numbers

MAGIC = 0x1950A86A20F9469CFC6C
DTYPES: dict[str, Any] = {
    "float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": BFLOAT16, "int64": "<i8",
    "int32": "<i4", "int16": "<i2", "int8": "i1", "uint8": "u1", "bool": "?", "uint16": "<u2",
    "uint32": "<u4", "uint64": "<u8", "complex64": "<c8", "complex128": "<c16",
}  # fmt: skip
STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
    "Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip
STORAGE_DTYPES: dict[str, np.dtype] = {
    **{f"torch.{name}Storage": np.dtype(DTYPES[dtype]) for name, dtype in STORAGES.items()},
    "torch.storage.UntypedStorage": np.dtype("u1"),
}
DEEPEST, MOST_MODULES = 50, 100_000  # of a module's parts
NAMES = {*STORAGE_DTYPES, *(f"torch.{name}" for name in DTYPES)}


def load_torch(path: str | Path) -> Any:
    """What torch.save or a pickled module holds: arrays for tensors, plain containers, Stubs.

    raises  CheckpointError for a damaged file, or one that calls what is no part of a tensor
    """
    data = mapped(path)
    if data[:4] == b"PK\x03\x04":
        return read_zip(str(path), data)
    return read_stream(str(path), data)


def read_zip(where: str, data: Any) -> Any:
    try:
        with zipfile.ZipFile(where) as archive:
            entries = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise CheckpointError(f"{where}: is a damaged zip: {error}") from None
    (root, *more) = [n.removesuffix("data.pkl") for n in entries if n.endswith("/data.pkl")] or [""]
    if not root or more:
        raise CheckpointError(f"{where}: is a zip, but no torch file: it has no single data.pkl")
    if f"{root}constants.pkl" in entries:
        raise CheckpointError(f"{where}: is TorchScript, a program; save its state_dict() instead")

    def content(name: str) -> np.ndarray:
        """An entry's bytes, over the mapped file, its checksum verified."""
        info = entries.get(root + name)
        if info is None:
            raise CheckpointError(f"{where}: lacks the entry {name}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise CheckpointError(f"{where}: {name} is compressed, as torch never does")
        at = info.header_offset
        begin = at + 30 + int.from_bytes(data[at + 26 : at + 28], "little")  # name and extra field
        begin += int.from_bytes(data[at + 28 : at + 30], "little")
        if data[at : at + 4] != b"PK\x03\x04" or begin + info.file_size > len(data):
            raise CheckpointError(f"{where}: {name} is not where the zip's directory says")
        found = np.frombuffer(data, np.uint8, info.file_size, begin)
        if zlib.crc32(found.data) != info.CRC:
            raise CheckpointError(f"{where}: {name} is damaged: its checksum is another")
        release(found)
        return found

    little = f"{root}byteorder" not in entries or content("byteorder").tobytes() != b"big"
    storages: dict[str, np.ndarray] = {}

    def persistent(pid: Any) -> np.ndarray:
        dtype, name, count = storage_of(pid)
        if name not in storages:
            storages[name] = content(f"data/{name}")
        if storages[name].nbytes < count * dtype.itemsize:
            raise Refused(f"is damaged: storage {shown(name)} has fewer than {count:,} numbers")
        return in_order(storages[name], dtype, little)

    pickled = content("data.pkl").tobytes()
    machine = torch_machine(where, len(data), little, persistent)
    return machine.run(io.BytesIO(pickled))


def read_stream(where: str, data: Any) -> Any:
    """A pickled module, or a file of the format before torch 1.6."""
    file = data if not isinstance(data, bytes) else io.BytesIO(data)

    def nested(inner: bytes) -> Any:  # torch.storage._load_from_bytes
        return read_legacy(f"{where}: a storage", io.BytesIO(checked(inner, bytes)), inner)

    machine = torch_machine(where, len(data), True, None, nested)
    value = machine.run(file)
    if value == MAGIC:
        file.seek(0)
        return read_legacy(where, file, data)
    if more := len(data) - file.tell():
        raise CheckpointError(f"{where}: {more:,} bytes follow the end of the pickle")
    return value


def read_legacy(where: str, file: Any, data: Any) -> Any:
    """The object of a legacy file: its storages, which come last, are filled in afterwards."""
    size = len(data)
    head = [Machine(where, size).run(file) for _ in range(3)]
    if head[0] != MAGIC or not isinstance(head[2], dict):
        raise CheckpointError(f"{where}: is no torch file of the legacy format")
    if head[1] != 1001:
        raise CheckpointError(f"{where}: has legacy version {shown(head[1])}; 1001 is known")
    little = head[2].get("little_endian", True) is True
    storages: dict[str, np.ndarray] = {}

    def persistent(pid: Any) -> np.ndarray | Global:
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
            return checked(pid[1], Global)  # a class, with its source code
        dtype, name, count = storage_of(pid)
        if len(pid) > 5 and pid[5] is not None:
            raise Refused("refuses storages that are views of others (torch before 0.4)")
        if name not in storages:
            machine.plain.spend(count * dtype.itemsize)
            storages[name] = np.empty(count, dtype)
        if (storages[name].dtype, storages[name].size) != (dtype, count):
            raise Refused(f"is damaged: storage {shown(name)} has two sizes")
        return storages[name]

    machine = torch_machine(where, size, True, persistent)
    value = machine.run(file)
    keys = Machine(where, size).run(file)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise CheckpointError(f"{where}: is damaged: its list of storages is not what it uses")
    at = file.tell()
    for name in keys:
        storage = storages[name]
        count = int.from_bytes(data[at : at + 8], "little" if little else "big", signed=True)
        at += 8 + storage.nbytes
        if count != storage.size or at > size:
            raise CheckpointError(f"{where}: is truncated or damaged at storage {shown(name)}")
        raw = np.frombuffer(data, np.uint8, storage.nbytes, at - storage.nbytes)
        storage.view(np.uint8)[:] = raw
        if not little:
            storage.view(swappable(storage.dtype)).byteswap(inplace=True)
    if at != size:
        raise CheckpointError(f"{where}: {size - at:,} bytes follow the last storage")
    return value


def storage_of(pid: Any) -> tuple[np.dtype, str, int]:
    """(dtype, key, count) of a persistent id: ('storage', type, key, location, count, ...)."""
    if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"
            and isinstance(pid[1], Global) and isinstance(pid[2], str)):  # fmt: skip
        raise Refused(f"refuses the persistent id {shown(pid)}: not one of a storage")
    if pid[1].name not in STORAGE_DTYPES:
        raise Refused(f"refuses storages of type {pid[1].name}")
    return STORAGE_DTYPES[pid[1].name], pid[2], whole_numbers([pid[4]])[0]


def swappable(dtype: np.dtype) -> np.dtype:
    return np.dtype("<u2") if dtype == BFLOAT16 else dtype


def in_order(storage: np.ndarray, dtype: np.dtype, little: bool) -> np.ndarray:
    """Bytes as numbers of dtype, whatever follows the last whole one left out."""
    whole = storage[: storage.nbytes // dtype.itemsize * dtype.itemsize].view(dtype)
    if little or dtype.itemsize == 1:
        return whole
    return whole.view(swappable(dtype)).byteswap().view(dtype)


def torch_machine(
    where: str, size: int, little: bool, persistent: Callable | None,
    load_from_bytes: Callable | None = None,
) -> Machine:  # fmt: skip
    def tensor(
        storage: Any, offset: Any, size: Any, stride: Any, *rest: Any, dtype: Any = None
    ) -> np.ndarray:
        """_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, ...)"""
        storage = checked(storage, np.ndarray).reshape(-1)
        if dtype is not None:
            storage = in_order(storage.view(np.uint8), dtype, little)
        (start,), size, stride = (*map(whole_numbers, ([offset], size, stride)),)
        last = start + sum((n - 1) * step for n, step in zip(size, stride))
        if len(size) != len(stride) or (prod(size) and last >= storage.size):
            raise Refused(
                f"is damaged: a tensor of size {size} and stride {stride} from {start} on does not "
                f"fit its storage of {storage.size:,} numbers"
            )
        if prod(size) > storage.size:
            raise Refused(f"refuses a tensor of size {size}: its storage is smaller than that")
        if not prod(size):
            return np.zeros(size, storage.dtype)
        itemsize = storage.itemsize
        steps = tuple(step * itemsize for step in stride)
        return np.ndarray(size, storage.dtype, storage, start * itemsize, steps)

    def tensor_v3(
        storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any,
        *rest: Any
    ) -> np.ndarray:  # fmt: skip
        name = checked(dtype, Global).name.removeprefix("torch.")
        return tensor(storage, offset, size, stride, dtype=np.dtype(DTYPES[name]))

    rebuilders: dict[str, Callable] = {
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": tensor_v3,
        "torch._utils._rebuild_parameter": lambda data, grad, hooks: checked(data, np.ndarray),
        "torch._utils._rebuild_parameter_with_state":
            lambda data, grad, hooks, state: checked(data, np.ndarray),
        "torch.Size": lambda size=(): whole_numbers(size),
        "torch.device": lambda *device: ":".join(map(str, device)),
    }  # fmt: skip
    # an object as protocols 0 and 1 make it
    for copyreg in ("copyreg", "copy_reg"):
        rebuilders[f"{copyreg}._reconstructor"] = lambda cls, base, state: Stub(
            checked(cls, Global).name
        )
    if load_from_bytes is not None:
        rebuilders["torch.storage._load_from_bytes"] = load_from_bytes
    names = {*NAMES, "builtins.object", "__builtin__.object"}
    return Machine(where, size, rebuilders=rebuilders, names=names, stubs=True,
                   persistent=persistent)  # fmt: skip


def module_state(module: Stub) -> dict[str, np.ndarray]:
    """The parameters and buffers of a pickled torch.nn.Module, as its state_dict() names them."""
    found: dict[str, np.ndarray] = {}
    waiting: list[tuple[str, Any]] = [("", module)]
    seen = 0
    while waiting:
        path, part = waiting.pop()
        seen += 1
        if not isinstance(part, Stub) or not isinstance(part.state, dict):
            raise CheckpointError(f"{path or 'the pickle'}: is no torch module")
        if path.count(".") > DEEPEST or seen > MOST_MODULES:
            raise CheckpointError(f"{path[:60]}: is a module inside of itself, or one of too many")
        own = {kind: members(part, kind) for kind in ("_parameters", "_buffers", "_modules")}
        passing = part.state.get("_non_persistent_buffers_set")
        for name, array in (own["_parameters"] | own["_buffers"]).items():
            if isinstance(array, np.ndarray) and not (isinstance(passing, set) and name in passing):
                found[f"{path}{name}"] = array
        inner = [(f"{path}{n}.", m) for n, m in own["_modules"].items() if m is not None]
        waiting += reversed(inner)
    return found


def members(module: Stub, kind: str) -> dict[Any, Any]:
    value = module.state.get(kind)
    return value if isinstance(value, dict) else {}
