"""Devices, streams and memory: two GPUs without peer access, and a record of who waits for them."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np

COUNT = 2  # cuda:0 and cuda:1


class CUDARuntimeError(RuntimeError):
    """As cupy.cuda.runtime raises it."""


class Waited(AssertionError):
    """A value was read, or the device waited for, where neither is allowed."""


class _Current(threading.local):
    def __init__(self):
        self.device, self.may_wait, self.waits = 0, True, 0


current = _Current()


def wait(why: str) -> None:
    """Every place where the host has to wait for the GPU goes through here."""
    if not current.may_wait:
        raise Waited(f"{why}: the GPU is waited for")
    current.waits += 1


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
        return 2**33 - Memory.used[self.id], 2**33

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


class Stream:
    """Work is done in order, at once."""

    ptr = 0

    def __init__(self, null: bool = False, non_blocking: bool = False):
        pass

    def synchronize(self) -> None:
        wait("Stream.synchronize()")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class Memory:
    """What one allocation takes of a device's pool, in units of 512 bytes as CuPy's."""

    __slots__ = ("device_id", "size")
    used = [0] * COUNT
    live: dict[int, tuple[int, int, int]] = {}  # id: first address, the one after the last, device

    def __init__(self, a: np.ndarray):
        self.device_id, self.size = current.device, -(-a.nbytes // 512) * 512
        Memory.used[self.device_id] += self.size
        Memory.live[id(self)] = (*np.lib.array_utils.byte_bounds(a), self.device_id)

    def __del__(self):
        Memory.used[self.device_id] -= self.size
        del Memory.live[id(self)]


class MemoryPointer:
    """`array.data`: an address on a device."""

    def __init__(self, memory: Memory, ptr: int):
        self.mem, self.ptr, self.device_id = memory, ptr, memory.device_id

    @property
    def device(self) -> Device:
        return Device(self.device_id)


class MemoryPool:
    """`cupy.get_default_memory_pool()`, of the current device."""

    def used_bytes(self) -> int:
        return Memory.used[current.device]

    total_bytes = used_bytes

    def free_all_blocks(self) -> None:
        pass
