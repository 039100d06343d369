"""Devices, streams and memory: two GPUs without peer access, and a record of who waits for them."""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np

COUNT = 2  # cuda:0 and cuda:1


class CUDARuntimeError(RuntimeError):
    """As cupy.cuda.runtime raises it."""


class Waited(AssertionError):
    """A value was read, or the device waited for, where neither is allowed."""


class _Current(threading.local):
    def __init__(self):
        self.device, self.may_wait, self.waits = 0, True, 0
        self.hooks: dict = {}
        self.stream: Any = None  # None: the default one
        self.capture: Any = None  # a capture.Capture, while a stream captures


current = _Current()


def wait(why: str) -> None:
    """Every place where the host has to wait for the GPU goes through here."""
    not_captured(why)
    if not current.may_wait:
        raise Waited(f"{why}: the GPU is waited for")
    current.waits += 1


def not_captured(what: str) -> None:
    """What a stream cannot capture goes through here."""
    if current.capture is not None:
        raise CUDARuntimeError(
            f"cudaErrorStreamCaptureUnsupported: operation not permitted when stream is "
            f"capturing ({what})"
        )


@contextmanager
def no_waiting():
    """Inside, whoever reads a value or synchronizes gets `Waited`."""
    before, current.may_wait = current.may_wait, False
    try:
        yield
    finally:
        current.may_wait = before


class Device:
    """`with Device(1):` makes it the current one. Device() is the current one."""

    compute_capability = "90"

    def __init__(self, device: int | Device | None = None):
        self.id = current.device if device is None else int(device)
        self._before: list[int] = []

    def use(self) -> Device:
        if not 0 <= self.id < COUNT:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        current.device = self.id
        return self

    def __enter__(self) -> Device:
        self._before.append(current.device)
        return self.use()

    def __exit__(self, *exc: object) -> None:
        current.device = self._before.pop()

    def synchronize(self) -> None:
        wait("Device.synchronize()")

    @property
    def mem_info(self) -> tuple[int, int]:
        return Memory.total - Memory.used[self.id], Memory.total

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


class Event:
    """A moment in a stream's work, which is now."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess=False):
        self.time: float | None = None

    def record(self, stream: Any = None) -> None:
        self.time = perf_counter()

    def synchronize(self) -> None:
        wait("Event.synchronize()")

    @property
    def done(self) -> bool:
        return True


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two recorded events."""
    if start_event.time is None or end_event.time is None:
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    return (end_event.time - start_event.time) * 1e3


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory raises it."""


class MemoryHook:
    """`with hook:` is told of each allocation of this thread, and of its end."""

    def malloc_postprocess(self, **kwargs: int) -> None:
        pass

    def free_postprocess(self, **kwargs: int) -> None:
        pass

    def __enter__(self) -> MemoryHook:
        if self.name in current.hooks:
            raise KeyError(f"memory hook {self.name} already exists")
        current.hooks[self.name] = self
        return self

    def __exit__(self, *exc: object) -> None:
        del current.hooks[self.name]


class Memory:
    """What one allocation takes of a device's pool, in units of 512 bytes as CuPy's."""

    __slots__ = ("device_id", "size", "array", "bounds", "__weakref__")
    used = [0] * COUNT
    live: weakref.WeakSet[Memory] = weakref.WeakSet()
    total = 2**33  # bytes of each device

    def __init__(self, array: np.ndarray):
        """array: the numbers in it."""
        self.array, size = array, array.nbytes
        self.bounds = np.lib.array_utils.byte_bounds(array)  # first address, one after the last
        self.device_id, self.size = current.device, -(-size // 512) * 512
        used = Memory.used[self.device_id]
        if used + self.size > Memory.total:
            self.size = 0
            raise OutOfMemoryError(
                f"Out of memory allocating {size:,} bytes (allocated so far: {used:,} bytes)."
            )
        Memory.used[self.device_id] += self.size
        Memory.live.add(self)
        self._tell("malloc_postprocess", size=size)

    def holds(self, address: int, size: int) -> bool:
        """Are these bytes in it?"""
        return self.bounds[0] <= address and address + size <= self.bounds[1]

    def __del__(self):
        Memory.used[self.device_id] -= self.size
        if self.size:
            self._tell("free_postprocess")

    def _tell(self, what: str, **more: int) -> None:
        for hook in current.hooks.values():
            getattr(hook, what)(
                device_id=self.device_id, mem_size=self.size, mem_ptr=id(self), pmem_id=id(self),
                **more,
            )  # fmt: skip


class MemoryPointer:
    """`array.data`: an address on a device."""

    def __init__(self, memory: Memory, ptr: int):
        self.mem, self.ptr, self.device_id = memory, ptr, memory.device_id

    @property
    def device(self) -> Device:
        return Device(self.device_id)


class MemoryPool:
    """`cupy.get_default_memory_pool()`, of the current device; all pools are one."""

    def malloc(self, size: int) -> None:
        raise NotImplementedError("arrays allocate for themselves")

    def used_bytes(self) -> int:
        return Memory.used[current.device]

    total_bytes = used_bytes

    def free_all_blocks(self) -> None:
        pass
