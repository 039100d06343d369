"""The one way to a CUDA kernel: find its source, compile it once, check what is passed.

    forward = kernel("norm", "layer_norm_forward")       # of norm.cu
    forward(grid, block, out, x, weight, np_or_python_scalar, shared=bytes)

The parameters are read in the source, so what is checked is what is compiled. A struct of the
source's own goes by value: a NumPy array of its size. A source is compiled per storage type (`real`
in it: the dtype of the arrays passed for `real*`), device, and constants:
`kernel("attention", "attention_forward", HEAD=64)` defines HEAD in it. One that is not for every
storage type says so in a line  // storage: __half, __nv_bfloat16
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import backend
from ...errors import ArgumentError, DeviceError, DtypeError

FOLDER = Path(__file__).parent
STORAGE = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}
TYPES = {
    "float": "float32", "double": "float64", "__half": "float16", "__nv_bfloat16": "bfloat16",
    "int": "int32", "unsigned": "uint32", "long long": "int64", "unsigned long long": "uint64",
    "unsigned char": "uint8", "bool": "bool",
}  # fmt: skip
NULL = 0  # CuPy passes None as the address 0xffffffff: github.com/cupy/cupy/issues/9046
STATIC_SHARED = 48 * 1024  # bytes that a block gets without asking


class Parameter(NamedTuple):
    """One parameter of an entry: `const real* x` is ("x", "real", True, True)."""

    name: str
    type: str
    pointer: bool
    const: bool


def source(file: str) -> str:
    """The text that is compiled for FILE.cu: device.h stands in front."""
    names = "device.h", f"{file}.cu"
    return "\n".join(f'#line 1 "{name}"\n{(FOLDER / name).read_text()}' for name in names)


def entries(text: str) -> dict[str, list[Parameter]]:
    """The kernels in a source, each with its parameters."""
    found = re.findall(
        r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(([^)]*)\)',
        text,
    )
    return {name: [_parameter(p) for p in inside.split(",")] for name, inside in found}


def _parameter(text: str) -> Parameter:
    words = text.replace("*", " * ").replace("__restrict__", "").split()
    *type_, name = [w for w in words if w not in ("const", "*")]
    return Parameter(name, " ".join(type_), "*" in words, "const" in words)


def storages(file: str) -> list[str]:
    """The storage types that FILE.cu is written for."""
    line = re.search(r"^// storage: (.*)$", source(file), re.MULTILINE)
    return line[1].split(", ") if line else [*STORAGE.values()]


@functools.cache
def _module(file: str, storage: str, device: int, defines: tuple[str, ...]) -> Any:
    return backend.cupy().RawModule(
        code=source(file), options=("-std=c++17", f"-Dreal={storage}", *defines), backend="nvrtc"
    )


class Kernel:
    """An entry of a source; called with grid, block and its arguments. See the module's head.

    raises  DtypeError, ArgumentError, DeviceError that name the kernel and the argument
    """

    def __init__(self, file: str, name: str, **constants: int):
        self.file, self.name = file, name
        self.defines = tuple(f"-D{k}={v}" for k, v in constants.items())
        self.parameters = entries(source(file))[name]
        self.functions: dict[tuple[str, int], Any] = {}

    def __repr__(self) -> str:
        return f"<kernel {self.name} of {self.file}.cu>"

    def __call__(self, grid: tuple, block: tuple, *args: Any, shared: int = 0) -> None:
        if len(args) != len(self.parameters):
            names = ", ".join(p.name for p in self.parameters)
            raise ArgumentError(f"{self.name}({names}) got {len(args)} arguments")
        device = backend.cupy().cuda.Device().id
        real = ""
        passed = []
        for parameter, value in zip(self.parameters, args):
            if not parameter.pointer and parameter.type not in TYPES:  # a struct, by value
                passed.append(value)
                continue
            if not parameter.pointer:
                passed.append(np.dtype(TYPES[parameter.type]).type(value))
                continue
            passed.append(NULL if value is None else value)
            if value is None:
                continue
            dtype = value.dtype.name
            if parameter.type == "real":
                real = real or dtype
            expected = real if parameter.type == "real" else TYPES[parameter.type]
            if dtype != expected or (parameter.type == "real" and dtype not in STORAGE):
                raise DtypeError(
                    f"{self.name}: {parameter.name} must be {expected}, got {dtype}"
                    if dtype != expected
                    else f"{self.name}: {parameter.name} must be one of {[*STORAGE]}, got {dtype}"
                )
            if not value.flags.c_contiguous:
                raise ArgumentError(
                    f"{self.name}: {parameter.name} {value.shape} must be contiguous"
                )
            if value.device.id != device:
                raise DeviceError(
                    f"{self.name}: {parameter.name} is on cuda:{value.device.id}, the kernel "
                    f"would run on cuda:{device}"
                )
        if 0 in grid:
            return  # nothing to do, which CUDA calls an error
        function = self._function(STORAGE[real or "float32"], device)
        if shared > max(STATIC_SHARED, function.max_dynamic_shared_size_bytes):
            function.max_dynamic_shared_size_bytes = shared
        function(grid, block, tuple(passed), shared_mem=shared)

    def _function(self, storage: str, device: int) -> Any:
        key = storage, device
        if key not in self.functions:
            module = _module(self.file, storage, device, self.defines)
            self.functions[key] = module.get_function(self.name)
        return self.functions[key]


kernel = functools.cache(Kernel)
