"""`tt.cuda`: what one asks of the GPUs, under PyTorch's names. CuPy is imported when asked."""

from __future__ import annotations

from typing import Any

from .backend import cuda_device_count as device_count
from .backend import cuda_is_available as is_available
from .backend import cupy, resolve
from .backend import synchronize as _synchronize
from .graphs import CUDAGraph, graph, is_current_stream_capturing

__all__ = [
    "CUDAGraph", "current_device", "device_count", "empty_cache", "graph", "is_available",
    "is_current_stream_capturing", "memory_allocated", "synchronize",
]  # fmt: skip


def current_device() -> int:
    """The number of the device that `cuda` stands for."""
    return cupy().cuda.Device().id


def synchronize(device: Any = "cuda") -> None:
    """Wait until all work queued on the device is done."""
    _synchronize(device)


def empty_cache() -> None:
    """Give memory that CuPy keeps for reuse back to the device."""
    cupy().get_default_memory_pool().free_all_blocks()


def memory_allocated(device: Any = "cuda") -> int:
    """Bytes in use by arrays on the device."""
    module = cupy()
    with module.cuda.Device(resolve(device).index):
        return module.get_default_memory_pool().used_bytes()
