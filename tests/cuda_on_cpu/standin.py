"""The module `cupy`, made of the stand-in's parts, and its installation in CuPy's place."""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager, nullcontext

import numpy as np

from . import cublas, shim
from .capture import Stream, launched
from .device import (
    COUNT,
    CUDARuntimeError,
    Device,
    Event,
    Memory,
    MemoryHook,
    MemoryPointer,
    MemoryPool,
    OutOfMemoryError,
    current,
    get_elapsed_time,
    no_waiting,
    wait,
)
from .functions import FUNCTIONS, MATRICES, as_strided, from_dlpack, get_array_module
from .ndarray import ndarray
from .ufuncs import UFUNCS, matmul

VERSION = "14.2.0"  # whose rules these are

# what CuPy takes over from NumPy
_NUMPY = """bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 dtype
finfo iinfo promote_types can_cast result_type issubdtype broadcast_shapes newaxis inf nan pi e
ndindex generic integer floating number""".split()


class Module(types.ModuleType):
    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"module {self.__name__!r} has no attribute {name!r} (if CuPy {VERSION} has one, "
            "tests/cuda_on_cpu must be taught it)"
        )


def _module(name: str, **attributes) -> Module:
    module = Module(name)
    module.__dict__.update(attributes)
    return module


class Runtime(Module):
    """cupy.cuda.runtime"""

    CUDARuntimeError = CUDARuntimeError

    def getDeviceCount(self) -> int:
        return COUNT

    def driverGetVersion(self) -> int:
        return 13000

    runtimeGetVersion = driverGetVersion

    def getDevice(self) -> int:
        return current.device

    def deviceSynchronize(self) -> None:
        wait("deviceSynchronize()")

    def memGetInfo(self) -> tuple[int, int]:
        return Device().mem_info

    def getDeviceProperties(self, device: int) -> dict:
        return {"name": b"stand-in", "major": 9, "minor": 0, "totalGlobalMem": Memory.total,
                "multiProcessorCount": 1, "l2CacheSize": 2**20}  # fmt: skip


class RawModule:
    """`cupy.RawModule`, behind it the shim: every launch is run, in the order `schedule` says."""

    schedule = (0, 1)

    def __init__(self, code: str, options: tuple = (), backend: str = "nvrtc"):
        self._module = shim.Module(code, options)

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self._module.get_function(name))


class RawKernel:
    def __init__(self, kernel: shim.Kernel):
        self._kernel = kernel

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._kernel.max_dynamic_shared_size_bytes

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        self._kernel.max_dynamic_shared_size_bytes = size

    @launched
    def __call__(self, grid: tuple, block: tuple, args: tuple, *, shared_mem: int = 0) -> None:
        if any(a is None for a in args):
            raise TypeError("CuPy passes None as the address 0xffffffff: pass 0")
        arrays = [None if type(a) is int and a == 0 else getattr(a, "_a", a) for a in args]
        self._kernel(grid, block, arrays, shared_mem, RawModule.schedule)


def _made() -> Module:
    pool = MemoryPool()
    cuda = _module(
        "cupy.cuda", Device=Device, Stream=Stream, MemoryPointer=MemoryPointer, Event=Event,
        MemoryHook=MemoryHook, get_elapsed_time=get_elapsed_time, MemoryPool=MemoryPool,
        memory=_module("cupy.cuda.memory", OutOfMemoryError=OutOfMemoryError),
        using_allocator=lambda allocator: nullcontext(),
        get_current_stream=Stream.current, runtime=Runtime("cupy.cuda.runtime"),
        nvrtc=_module("cupy.cuda.nvrtc", getVersion=lambda: (13, 0)),
        device=_module("cupy.cuda.device", get_cublas_handle=lambda: 1),
        is_available=lambda: True,
    )  # fmt: skip
    return _module(
        "cupy", __version__=VERSION, ndarray=ndarray, cuda=cuda, matmul=matmul, RawModule=RawModule,
        linalg=_module("cupy.linalg", **MATRICES), from_dlpack=from_dlpack,
        lib=_module(
            "cupy.lib", stride_tricks=_module("cupy.lib.stride_tricks", as_strided=as_strided)
        ),
        get_array_module=get_array_module, get_default_memory_pool=lambda: pool,
        is_available=lambda: True, **{n: getattr(np, n) for n in _NUMPY}, **UFUNCS, **FUNCTIONS,
    )  # fmt: skip


cupy = _made()
cupyx = _module(
    "cupyx", allow_synchronize=lambda allow: nullcontext() if allow else no_waiting()
)
CUBLASLT = cublas.Library()  # and what the engine keeps for it, over all installations
_contexts: dict = {}


@contextmanager
def installed():
    """Inside, `import cupy` finds the stand-in, and tinytensor's `cuda` is it."""
    from tinytensor import backend
    from tinytensor.kernels.cuda import cublaslt

    load, contexts = cublaslt.load, cublaslt.contexts
    cublaslt.load, cublaslt.contexts = lambda: CUBLASLT, _contexts
    cublaslt.library.cache_clear()
    modules = {"cupy": cupy, "cupy.cuda": cupy.cuda, "cupyx": cupyx}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    backend.cupy.cache_clear()
    try:
        yield cupy
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
        backend.cupy.cache_clear()
        cublaslt.load, cublaslt.contexts = load, contexts
        cublaslt.library.cache_clear()
        current.device = 0
