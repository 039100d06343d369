"""CUDA C on the CPU: compile a source behind shim.h, call its kernels as CuPy's RawModule would.

Every array is copied to memory that ends at a page nobody may touch, and back afterwards.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

HERE = Path(__file__).parent
TYPES = {
    "float": np.float32, "double": np.float64, "int": np.int32, "unsigned int": np.uint32,
    "long long int": np.int64, "long long unsigned int": np.uint64, "unsigned char": np.uint8,
    "bool": np.bool_, "__nv_bfloat16": ml_dtypes.bfloat16, "__half": np.float16,
}  # fmt: skip
ENTRY = r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)'
# (order of the threads, seed): forwards, backwards, shuffled, one warp far ahead, shuffled warps
SCHEDULES = [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)]
PAGE = 4096

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Guarded:
    """A copy of an array in memory that ends, but for a canary of < 16 bytes, at a closed page."""

    def __init__(self, a: np.ndarray):
        self.bytes, room = a.nbytes, -(-a.nbytes // 16) * 16
        self.size = -(-room // PAGE) * PAGE + 2 * PAGE
        self.start = libc.mmap(None, self.size, 3, 0x22, -1, 0)
        libc.mprotect(self.start, PAGE, 0)
        libc.mprotect(self.start + self.size - PAGE, PAGE, 0)
        self.ptr = self.start + self.size - PAGE - room
        self.memory = np.frombuffer((ctypes.c_ubyte * room).from_address(self.ptr), np.uint8)
        self.memory[: self.bytes] = np.frombuffer(a.tobytes(), np.uint8)
        self.memory[self.bytes :] = 0xA5

    def take(self, a: np.ndarray) -> None:
        if (self.memory[self.bytes :] != 0xA5).any():
            raise RuntimeError("write past the end of an array")
        a[...] = np.frombuffer(self.memory[: self.bytes].tobytes(), a.dtype).reshape(a.shape)

    def free(self) -> None:
        libc.munmap(self.start, self.size)


class Module:
    """A source compiled for the CPU; `options` as NVRTC's, of which -D counts."""

    def __init__(self, source: str, options: tuple[str, ...] = ()):
        names = re.findall(ENTRY, source)
        exports = "\n".join(f"SHIM_EXPORT({name})" for name in names)
        code = f'#line 1 "kernel.cu"\n{source}\n{exports}\n'
        defines = [o for o in options if o.startswith("-D")]
        seed = "".join([code, (HERE / "shim.h").read_text(), *defines])
        folder = Path(tempfile.gettempdir()) / f"cuda-on-cpu-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        library = folder / (hashlib.sha1(seed.encode()).hexdigest()[:16] + ".so")
        if not library.exists():
            own = library.with_suffix(f".{os.getpid()}")
            own.with_suffix(own.suffix + ".cpp").write_text(code)
            command = [
                "g++", "-std=c++17", "-O1", "-fPIC", "-shared", "-fno-strict-aliasing",
                "-Wno-attributes", "-Wno-unknown-pragmas", *defines,
                "-include", str(HERE / "shim.h"), str(own) + ".cpp", "-o", str(own),
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True)
            os.unlink(str(own) + ".cpp")
            if done.returncode:
                raise RuntimeError(done.stderr)
            os.replace(own, library)
        self.library = ctypes.CDLL(str(library))
        self.names = names

    def get_function(self, name: str) -> Kernel:
        return Kernel(self.library, name)


class Kernel:
    def __init__(self, library: ctypes.CDLL, name: str):
        self.name, self.run = name, getattr(library, "shim_run_" + name)
        signature = getattr(library, "shim_sig_" + name)
        signature.restype = ctypes.c_char_p
        inside = re.search(r"with A = \{(.*?)\}", signature().decode()).group(1)
        self.parameters = []
        for text in inside.split(", "):
            bare = text.replace("const", "").replace("__restrict__", "").replace("*", "").strip()
            self.parameters.append((text, "*" in text, "const" in text, np.dtype(TYPES[bare])))
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid, block, args, shared_mem=0, schedule=(0, 1)):
        if len(args) != len(self.parameters):
            raise TypeError(f"{self.name}: {len(self.parameters)} parameters, {len(args)} given")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise RuntimeError(f"{self.name}: {shared_mem} bytes of shared memory not asked for")
        guarded, values = [], []
        for i, (a, (text, pointer, const, dtype)) in enumerate(zip(args, self.parameters)):
            if pointer and a is None:
                values.append(np.uint64(0))
            elif getattr(a, "dtype", None) != dtype or pointer != isinstance(a, np.ndarray):
                raise TypeError(f"{self.name}: argument {i}, {a!r:.60}, is not a {text}")
            elif pointer:
                same = [g for g in guarded if (g[1].ctypes.data, g[1].nbytes) == (a.ctypes.data, a.nbytes)]
                if not same:  # two pointers to one array are two on a GPU as well
                    same = [[Guarded(a), a, True]]
                    guarded += same
                same[0][2] &= const
                values.append(np.uint64(same[0][0].ptr))
            else:
                values.append(a)
        held = [np.array(v) for v in values]
        pointers = (ctypes.c_void_p * max(1, len(held)))(*[h.ctypes.data for h in held])
        message = ctypes.create_string_buffer(1024)
        three = [(ctypes.c_uint * 3)(*(*d, 1, 1, 1)[:3]) for d in (grid, block)]
        size = ctypes.c_size_t
        failed = self.run(*three, size(shared_mem), pointers, *schedule, message, size(1024))
        try:
            if failed:
                raise RuntimeError(f"{self.name}: {message.value.decode()}")
            for memory, a, const in guarded:
                if const and memory.memory[: memory.bytes].tobytes() != a.tobytes():
                    raise RuntimeError(f"{self.name}: an array that is const was written")
                memory.take(a)
        finally:
            for memory, _, _ in guarded:
                memory.free()
