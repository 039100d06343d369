"""Devices and their array modules: NumPy for `cpu`, CuPy for `cuda`. The only importer of cupy.

The device is a property of each array; nothing here is chosen at import time or by the
environment. CuPy is imported when somebody first asks for `cuda`.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import lru_cache, wraps
from typing import Any

import numpy as np

from .errors import ArgumentError, DeviceError

ndarray = np.ndarray
Array = Any  # numpy.ndarray or cupy.ndarray


class Device:
    """`device('cuda:1')`: a type, `cpu` or `cuda`, and for cuda an index. Equal to its string."""

    __slots__ = ("type", "index")
    type: str
    index: int | None

    def __init__(self, type: Any, index: int | None = None):
        if isinstance(type, Device):
            type, index = str(type), type.index
        name, _, number = str(type).partition(":")
        if name not in ("cpu", "cuda") or (number and not number.isdigit()):
            raise DeviceError(f"device {str(type)!r} is not one of 'cpu', 'cuda', 'cuda:N'")
        self.type = name
        self.index = int(number) if number else index

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Device, str)):
            return NotImplemented
        if isinstance(other, str):
            if other.partition(":")[0] not in ("cpu", "cuda"):
                return False
            other = Device(other)
        return self.type == other.type and (self.index or 0) == (other.index or 0)

    def __hash__(self) -> int:
        return hash((self.type, self.index or 0))


CPU = Device("cpu")


def cuda_problem() -> str | None:
    """None if CUDA can be used, else one sentence: what is missing and what to install.

    Asks in the order that gives the best message: package, driver, device, compiler, cuBLAS.
    """
    try:
        import cupy
    except ImportError as error:
        reason = str(error).strip().splitlines()[0]
        return (
            f"CuPy is not installed ({reason}): pip install 'tinytensor[cuda13]' "
            "(or [cuda12] for a CUDA 12 driver)"
        )
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if runtime.driverGetVersion() == 0:
            return (
                f"there is no NVIDIA driver on this machine (CuPy {cupy.__version__}): "
                "install the driver, or use device='cpu'"
            )
        return f"the CUDA driver ({runtime.driverGetVersion()}) cannot be used: {error}"
    if count == 0:
        return "the driver sees no GPU: look at CUDA_VISIBLE_DEVICES"
    for library, probe in (
        ("NVRTC", lambda: cupy.cuda.nvrtc.getVersion()),
        ("cuBLAS", lambda: cupy.cuda.device.get_cublas_handle()),
    ):
        try:
            probe()
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            return f"{library} cannot be loaded ({reason}): pip install 'cupy-cuda13x[ctk]'"
    return None


@lru_cache(maxsize=1)
def cupy() -> Any:
    """The module cupy, or a DeviceError with the reason why CUDA cannot be used."""
    problem = cuda_problem()
    if problem:
        raise DeviceError(f"device 'cuda' cannot be used: {problem}")
    try:
        import ml_dtypes  # noqa: F401  (registers bfloat16 before cupy looks for it)
    except ImportError:
        pass
    import cupy

    return cupy


def cuda_is_available() -> bool:
    return cuda_problem() is None


def cuda_device_count() -> int:
    return cupy().cuda.runtime.getDeviceCount() if cuda_is_available() else 0


def resolve(device: Any) -> Device:
    """A Device that exists: `cuda` becomes the current `cuda:N`; `auto` the GPU if there is one."""
    if device is None:
        return CPU
    if isinstance(device, str) and device == "auto":
        return resolve("cuda") if cuda_is_available() else CPU
    if isinstance(device, int):
        device = f"cuda:{device}"
    if not isinstance(device, (Device, str)):
        raise ArgumentError(f"device must be a string such as 'cuda:0', got {device!r}")
    device = Device(device)
    if device.type == "cpu":
        return CPU
    module = cupy()
    if device.index is None:
        return Device("cuda", module.cuda.Device().id)
    count = module.cuda.runtime.getDeviceCount()
    if device.index >= count:
        raise DeviceError(f"device {str(device)!r}: this machine has {count} GPU(s), cuda:0 first")
    return device


def device_of(array: Array) -> Device:
    return CPU if isinstance(array, ndarray) else Device("cuda", array.device.id)


def check_one_device(name: str, **arrays: Array) -> None:
    """DeviceError that names each one's device, unless all are on one; None is on any."""
    placed = {k: device_of(a) for k, a in arrays.items() if a is not None}
    device = next(iter(placed.values()))
    if any(d != device for d in placed.values()):
        where = ", ".join(f"{k} is on {d}" for k, d in placed.items())
        raise DeviceError(
            f"{name}: {where}: all must be on one device; move one with .to({str(device)!r})"
        )


def namespace_of(array: Array) -> Any:
    """The array module of an array: numpy, or cupy."""
    return np if isinstance(array, ndarray) else sys.modules["cupy"]


def namespace(device: Device) -> Any:
    return np if device.type == "cpu" else cupy()


def to_device(array: Array, device: Device) -> Array:
    """The array on `device`; itself if it is there already."""
    if device_of(array) == device:
        return array
    if device.type == "cpu":
        return array.get()
    module = cupy()
    with module.cuda.Device(device.index):
        # copy() takes any strides from another GPU, asarray() does not
        return module.asarray(array) if isinstance(array, ndarray) else array.copy()


def using(array: Array) -> Any:
    """`with using(array):` new arrays are made on its device; on the CPU nothing changes."""
    return _NO_CHANGE if isinstance(array, ndarray) else array.device


def on_its_device(function: Any) -> Any:
    """Decorator: what a function makes beside the ops, it makes on the device of its first tensor
    (or array)."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        for a in (*args, *kwargs.values()):
            array = getattr(a, "array", a)
            if hasattr(array, "strides"):
                with using(array):
                    return function(*args, **kwargs)
        return function(*args, **kwargs)

    return run


_NO_CHANGE = nullcontext()


class Following:
    """`with Following() as device: device.follow(array)`: the current CUDA device becomes that of
    each array in turn, and in the end what it was. NumPy's arrays cost one look at their type."""

    before: Any = None

    def __enter__(self) -> Following:
        return self

    def follow(self, array: Array) -> None:
        if isinstance(array, ndarray):
            return
        if self.before is None:
            self.before = cupy().cuda.Device()
        array.device.use()

    def __exit__(self, *exc: object) -> None:
        if self.before is not None:
            self.before.use()


def copy(array: Array, order: Any = "C") -> Array:
    """A copy on the array's own device."""
    if isinstance(array, ndarray):
        return array.copy(order)
    with using(array):
        return array.copy(order)


def join_at(join: Any, out: Array, index: Any, value: Any) -> None:
    """`join.at(out, index, value)`, join one of xp.add, maximum, minimum; indices may repeat.

    CUDA's atomics know few dtypes: those of less than 32 bits take the way through one that holds
    all their numbers, and wraps around at the same places.
    """
    if isinstance(out, ndarray) or out.dtype.itemsize >= 4:
        join.at(out, index, value)
        return
    total = out.astype(np.int32 if out.dtype.kind in "biu" else np.float32)
    join.at(total, index, value)
    out[...] = total.astype(out.dtype)


def full_like(array: Array, value: Any) -> Array:
    """`value` everywhere in an array of the same shape, dtype and device."""
    with using(array):
        out = namespace_of(array).empty_like(array)
        out.fill(value)
    return out


def to_numpy(array: Array) -> ndarray:
    return array if isinstance(array, ndarray) else array.get()


def synchronize(device: Device | str | None = None) -> None:
    """Wait until the work queued on a CUDA device is done; on the CPU nothing is queued."""
    device = resolve(device)
    if device.type == "cuda":
        module = cupy()
        with module.cuda.Device(device.index):
            module.cuda.get_current_stream().synchronize()
