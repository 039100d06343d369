"""CUDA C on the CPU: a kernel's own text, compiled by g++ and run in the orders a GPU might choose.

    Module(source, ("-Dreal=float",)).get_function("entry")(grid, block, args, shared_mem, schedule)

which is `cupy.RawModule` but for the schedule. Arrays are NumPy's and are worked on where they lie.

scheduler.cpp  a block's threads as fibers: barriers, warps, deadlocks; the schedules
memory.cpp     every access is looked at: bounds, const, alignment, unwritten memory, races
tensor.cpp     mma, ldmatrix and cp.async after the PTX ISA's tables
*.h            what a kernel's source is compiled against (cuda.h first)
build.py       g++, once per content

What a GPU does and this does not: real concurrency (memory is sequentially consistent; that a race
is none by luck is not relied on, it is reported), flush of denormal numbers to zero, fused
multiply-add, limits of registers (nvrtc.py looks at those).
"""

from __future__ import annotations

import ctypes
import functools
import re
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from tinytensor.kernels.cuda.launch import entries

from ..device import Memory
from . import build
from .build import CompileError, missing

# (order of the threads, seed): forwards, backwards (the blocks too), shuffled, one warp as far
# ahead as it can, the same with the warps shuffled
SCHEDULES = [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)]
# C++'s names, as the compiler spells them
TYPES = {
    "float": np.float32, "double": np.float64, "int": np.int32, "unsigned int": np.uint32,
    "long long int": np.int64, "long long unsigned int": np.uint64, "unsigned char": np.uint8,
    "bool": np.bool_, "__nv_bfloat16": ml_dtypes.bfloat16, "__half": np.float16,
}  # fmt: skip
MOST_SHARED = 227 * 1024  # bytes a block can have on sm_90
MOST_BLOCKS = (2**31 - 1, 65535, 65535)
MOST_THREADS = (1024, 1024, 64)

# memory nobody has written to holds NaNs that no arithmetic makes
POISON: dict[np.dtype, Any] = {
    np.dtype(np.float64): np.uint64(0x7FF8DEADDEADDEAD),
    np.dtype(np.float32): np.uint32(0x7FE0DEAD),
    np.dtype(np.float16): np.uint16(0x7FAD),
    np.dtype(ml_dtypes.bfloat16): np.uint16(0x7FED),
}


def poisoned(a: np.ndarray) -> np.ndarray:
    """An array as an allocation comes: whoever reads it gets caught, or NaN, or the largest int."""
    if a.dtype in POISON:
        a.view(POISON[a.dtype].dtype).fill(POISON[a.dtype])
    elif a.dtype.kind in "iu":
        a.fill(np.iinfo(a.dtype).max)
    elif a.dtype.kind in "fV":
        a.fill(np.nan)
    return a


class KernelError(RuntimeError):
    """What a kernel did that it must not do, with the line."""


class Region(ctypes.Structure):
    """As in runtime.h."""

    _fields_ = [
        ("start", ctypes.c_uint64), ("bytes", ctypes.c_uint64), ("poison", ctypes.c_uint64),
        ("itemsize", ctypes.c_uint32), ("constant", ctypes.c_uint32),
        ("shared", ctypes.c_uint32), ("name", ctypes.c_char_p),
    ]  # fmt: skip


class Parameter(NamedTuple):
    """One parameter of an entry as the compiler sees it: `const float*` is (..., True, True)."""

    name: str
    text: str
    dtype: np.dtype | None  # None: a struct, passed by value
    pointer: bool
    const: bool
    bytes: int


@functools.cache
def _runtime() -> ctypes.CDLL:
    return ctypes.CDLL(str(build.runtime()))


class Module:
    """A source compiled for the CPU; `options` as NVRTC's, of which -D counts.

    raises  CompileError
    """

    def __init__(self, source: str, options: Sequence[str] = ()):
        self.entries = entries(source)
        exports = "\n".join(f"SHIM_ENTRY({name})" for name in self.entries)
        # nothing in it is seen from outside: else the loader would take arrays in shared memory of
        # the same name, which are static, for one
        code = f'namespace {{\n#line 1 "kernel.cu"\n{source}\n}}\n{exports}\nSHIM_IMAGE\n'
        self.path = build.kernels(code, tuple(o for o in options if o.startswith("-D")))
        _runtime()
        self.library = ctypes.CDLL(str(self.path))
        self.shared = list(_static_arrays(self.path))
        bounds = ctypes.c_void_p(), ctypes.c_void_p()
        self.library.shim_image(*map(ctypes.byref, bounds))
        self.image = bounds[0].value or 0, bounds[1].value or 0

    def get_function(self, name: str) -> Kernel:
        return Kernel(self, name)


def _static_arrays(library) -> list[tuple[int, int, bytes]]:
    """(offset, bytes, name) of the variables in shared memory: static ones of functions."""
    listing = subprocess.run(["nm", "-S", library], capture_output=True, text=True, check=True)
    found = re.findall(r"^(\w+) (\w+) [bd] (_ZZ\w+)$", listing.stdout, re.M)
    return [
        (int(start, 16), int(size, 16), re.sub(r".*E\d+", "", name).encode())
        for start, size, name in found
    ]


class Kernel:
    """An entry. Called, it runs the whole grid.

    raises  TypeError for arguments the entry does not have, KernelError for what it does wrong
    """

    def __init__(self, module: Module, name: str):
        self.module, self.name = module, name
        self.call = getattr(module.library, "shim_call_" + name)
        self.parameters = list(self._parameters())
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def _parameters(self) -> Iterator[Parameter]:
        signature = getattr(self.module.library, "shim_signature_" + self.name)
        signature.restype = ctypes.c_char_p
        inside = re.search(r"with A = \{(.*)\}\]", signature().decode())
        sizes = getattr(self.module.library, "shim_sizes_" + self.name)
        sizes.restype = ctypes.POINTER(ctypes.c_int)
        texts = inside[1].split(", ") if inside else []
        for text, size, parameter in zip(texts, sizes(), self.module.entries[self.name]):
            bare = re.sub(r"const|__restrict__|\*", "", text).strip()
            dtype = np.dtype(TYPES[bare]) if bare in TYPES else None
            yield Parameter(parameter.name, text, dtype, "*" in text, "const" in text, size)

    def __call__(
        self, grid: tuple, block: tuple, args: Sequence[Any], shared_mem: int = 0,
        schedule: tuple[int, int] = SCHEDULES[0],
    ) -> None:  # fmt: skip
        self._check_launch(grid, block, shared_mem)
        values, regions = self._arguments(args)
        for start, size, name in self.module.shared:
            regions.append(Region(self.module.image[0] + start, size, 0, 1, 0, 1, name))
        # on a GPU dynamic shared memory begins at a multiple of 16, no more is promised
        room = np.empty(shared_mem + 48, np.uint8)
        dynamic = -(-room.ctypes.data // 32) * 32 + 16
        if shared_mem:
            regions.append(Region(dynamic, shared_mem, 0, 1, 0, 1, b"dynamic shared memory"))
        # the entry's parameters, side by side, and in front the address of each
        table = np.zeros(2 * len(values) + sum(v.nbytes // 16 + 1 for v in values) * 2, np.uint64)
        at = len(values)
        for i, value in enumerate(values):
            at += (table.ctypes.data // 8 + at) % 2
            table.view(np.uint8)[8 * at : 8 * at + value.nbytes] = value
            table[i] = table.ctypes.data + 8 * at
            at += -(-value.nbytes // 8)
        regions.append(Region(table.ctypes.data, table.nbytes, 0, 1, 1, 0, b"the parameters"))
        message = ctypes.create_string_buffer(1024)
        three = [(ctypes.c_uint * 3)(*(*d, 1, 1, 1)[:3]) for d in (grid, block)]
        failed = _runtime().shim_launch(
            self.call, ctypes.c_void_p(table.ctypes.data), *three, ctypes.c_void_p(dynamic),
            *schedule, (Region * len(regions))(*regions), len(regions),
            *map(ctypes.c_void_p, self.module.image), message, ctypes.c_size_t(1024),
        )  # fmt: skip
        if failed:
            raise KernelError(f"{self.name}: {self._located(message.value.decode())}")

    def _check_launch(self, grid: tuple, block: tuple, shared_mem: int) -> None:
        for what, sizes, most in (("grid", grid, MOST_BLOCKS), ("block", block, MOST_THREADS)):
            if not all(1 <= n <= m for n, m in zip(sizes, most)) or len(sizes) > 3:
                raise KernelError(f"{self.name}: a {what} of {sizes} cannot be launched")
        if np.prod(block) > MOST_THREADS[0]:
            raise KernelError(f"{self.name}: a block of {block} has over {MOST_THREADS[0]} threads")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise KernelError(f"{self.name}: {shared_mem} bytes of shared memory not asked for")
        static = sum(size for _, size, _ in self.module.shared)
        if shared_mem + static > MOST_SHARED:
            raise KernelError(f"{self.name}: {shared_mem} + {static} bytes of shared memory, "
                              f"{MOST_SHARED} there are")  # fmt: skip

    def _arguments(self, args: Sequence[Any]) -> tuple[list[np.ndarray], list[Region]]:
        """The bytes of each argument, and what may be touched because of them."""
        if len(args) != len(self.parameters):
            raise TypeError(f"{self.name}: {len(self.parameters)} parameters, {len(args)} given")
        regions: list[Region] = []
        values = []
        for p, a in zip(self.parameters, args):
            value = np.zeros(1, np.uint64) if a is None else a
            fits = (
                a is None if p.pointer else p.bytes == getattr(a, "nbytes", 0)
            ) if p.dtype is None or a is None else (
                getattr(a, "dtype", None) == p.dtype and p.pointer == isinstance(a, np.ndarray)
            )  # fmt: skip
            if not fits:
                raise TypeError(f"{self.name}: {p.name} = {a!r:.60} is not a {p.text}")
            if p.pointer and a is not None:
                if not a.flags.c_contiguous:
                    raise TypeError(f"{self.name}: {p.name} is not contiguous")
                value = np.array([a.ctypes.data], np.uint64)
                if a.nbytes:
                    poison, const = int(POISON.get(a.dtype, 0)), p.const or not a.flags.writeable
                    regions.append(Region(a.ctypes.data, a.nbytes, poison, a.itemsize, const, 0,
                                          p.name.encode()))  # fmt: skip
            values.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
            if p.dtype is None or a is not None and a.dtype in (np.uint64, np.int64):
                regions += _behind(a, p.name)
        return values, _merged(regions)

    def _located(self, message: str) -> str:
        """A message in which addresses of code, @1a2b@, are lines of the source."""
        codes = re.findall(r"@(\w+)@", message)
        if not codes:
            return message
        command = ["addr2line", "-i", "-a", "-e", str(self.module.path), *codes]
        lines = subprocess.run(command, capture_output=True, text=True).stdout
        for code, frames in zip(codes, re.split(r"^0x\w+\n", lines, flags=re.M)[1:]):
            # innermost first; what cuda.h includes is not the kernel's
            own = re.findall(rf"^(?!{re.escape(str(build.HERE))})(\S+)", frames, re.M)
            short = [re.sub(r".*/", "", f) for f in own] or ["an unknown line"]
            message = message.replace(f"@{code}@", ", called at ".join(short[:3]), 1)
        return message


def _behind(table: np.ndarray, name: str) -> list[Region]:
    """The stand-in's allocations that addresses in an argument point into."""
    if table.nbytes % 8:
        return []
    words = np.unique(np.ascontiguousarray(table).reshape(-1).view(np.uint64))
    words = words[words > 2**32]
    if not words.size:
        return []
    live = np.array(sorted({m.bounds for m in list(Memory.live)}), np.uint64)
    found = np.unique(np.searchsorted(live[:, 0], words, "right") - 1)
    return [
        Region(start, end - start, 0, 2, 0, 0, b"what " + name.encode() + b" points to")
        for start, end in live[found[found >= 0]].tolist()
        if end > start and ((words >= start) & (words < end)).any()
    ]


def _merged(regions: list[Region]) -> list[Region]:
    """By address; arguments that overlap, as in work done in place, are one."""
    merged: list[Region] = []
    for r in sorted(regions, key=lambda r: r.start):
        last = merged[-1] if merged else r
        if not merged or last.start + last.bytes <= r.start:
            merged.append(r)
            continue
        last.bytes = max(last.start + last.bytes, r.start + r.bytes) - last.start
        last.itemsize, last.constant = min(last.itemsize, r.itemsize), last.constant & r.constant
        last.poison = r.poison if r.poison == last.poison else 0
        last.name = last.name if last.name == r.name else last.name + b", " + r.name
    return merged
