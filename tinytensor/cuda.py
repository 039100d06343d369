"""`tt.cuda`: what one asks of the GPUs, under PyTorch's names. CuPy is imported when asked."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from .backend import cuda_device_count as device_count
from .backend import cuda_is_available as is_available
from .backend import cupy, resolve
from .backend import synchronize as _synchronize
from .graphs import CUDAGraph, graph, is_current_stream_capturing

__all__ = [
    "CUDAGraph", "Event", "current_device", "device", "device_count", "empty_cache",
    "get_device_capability", "get_device_name", "get_device_properties", "graph", "is_available",
    "is_current_stream_capturing", "max_memory_allocated", "max_memory_reserved", "mem_get_info",
    "memory_allocated", "memory_reserved", "reset_peak_memory_stats", "set_device", "synchronize",
]  # fmt: skip


def current_device() -> int:
    """The number of the device that `cuda` stands for."""
    return cupy().cuda.Device().id


def device(device: Any) -> Any:
    """`with tt.cuda.device(1):` `cuda` stands for cuda:1 inside."""
    return _on(device)


def set_device(device: Any) -> None:
    """Let `cuda` stand for this device from now on."""
    _on(device).use()


def synchronize(device: Any = "cuda") -> None:
    """Wait until all work queued on the device is done."""
    _synchronize(device)


class Event:
    """A moment in the work of the device's current stream: `a.record(); ...; b.record()`."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False):
        self._event = cupy().cuda.Event(block=blocking, disable_timing=not enable_timing)

    def record(self) -> None:
        """Put the moment behind the work queued so far."""
        self._event.record()

    def synchronize(self) -> None:
        """Wait until the device has come to it."""
        self._event.synchronize()

    def query(self) -> bool:
        """Whether the device has come to it."""
        return self._event.done

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from here to `end`; both need enable_timing and to have been reached."""
        return cupy().cuda.get_elapsed_time(self._event, end._event)


# ------------------------------------------------------------------------------ what it is


class Properties(NamedTuple):
    """Of a GPU, under PyTorch's names; memory and cache in bytes."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    L2_cache_size: int


def get_device_properties(device: Any = "cuda") -> Properties:
    own = cupy().cuda.runtime.getDeviceProperties(_on(device).id)
    return Properties(
        own["name"].decode(), own["major"], own["minor"], own["totalGlobalMem"],
        own["multiProcessorCount"], own["l2CacheSize"],
    )  # fmt: skip


def get_device_name(device: Any = "cuda") -> str:
    return get_device_properties(device).name


def get_device_capability(device: Any = "cuda") -> tuple[int, int]:
    """(9, 0) for an H100."""
    own = get_device_properties(device)
    return own.major, own.minor


# ------------------------------------------------------------------------------ its memory


def mem_get_info(device: Any = "cuda") -> tuple[int, int]:
    """Bytes free and in all, as the driver has it: what CuPy keeps for reuse is not free there."""
    return _on(device).mem_info


def empty_cache() -> None:
    """Give memory that CuPy keeps for reuse back to the device."""
    cupy().get_default_memory_pool().free_all_blocks()


def memory_allocated(device: Any = "cuda") -> int:
    """Bytes in use by arrays on the device."""
    with _on(device):
        return cupy().get_default_memory_pool().used_bytes()


def memory_reserved(device: Any = "cuda") -> int:
    """Bytes that CuPy has taken of the device: in use by arrays, or kept for the next ones."""
    with _on(device):
        return cupy().get_default_memory_pool().total_bytes()


max_memory_reserved = memory_reserved  # it gives nothing back before empty_cache()


def reset_peak_memory_stats(device: Any = "cuda") -> None:
    """Let max_memory_allocated() be of what happens from now on."""
    counts = _watch(cupy())
    index = _on(device).id
    counts.used[index] = counts.peak[index] = memory_allocated(device)


def max_memory_allocated(device: Any = "cuda") -> int:
    """The most bytes in use at once on the device since reset_peak_memory_stats(), by this thread.

    CuPy keeps no such count, and keeping one costs a few microseconds for every array, so it is
    kept from the first reset on. Before, this is max_memory_reserved(), which is more.
    """
    return _watch(cupy()).peak.get(_on(device).id) or max_memory_reserved(device)


@lru_cache(maxsize=1)
def _watch(module: Any) -> Any:
    """Count what CuPy's pools hand out and get back, by device, from now on."""

    class Counts(module.cuda.MemoryHook):
        name = "tinytensor.cuda"

        def __init__(self) -> None:
            self.used: dict[int, int] = {}
            self.peak: dict[int, int] = {}

        def malloc_postprocess(self, **made: int) -> None:
            if made["mem_ptr"] and made["device_id"] in self.used:
                now = self.used[made["device_id"]] + made["mem_size"]
                self.used[made["device_id"]] = now
                self.peak[made["device_id"]] = max(now, self.peak[made["device_id"]])

        def free_postprocess(self, **freed: int) -> None:
            if freed["device_id"] in self.used:
                self.used[freed["device_id"]] -= freed["mem_size"]

    counts = Counts()
    counts.__enter__()  # for the life of the process
    return counts


def _on(device: Any) -> Any:
    """CuPy's Device: `with` it, or ask it."""
    return cupy().cuda.Device(resolve(device).index)
