"""The kernels' sources compiled for real GPUs by NVRTC, without one, with CuPy's own options.

    python -m tests.cuda_on_cpu.nvrtc [NAME ...]

prints for each source, storage type and architecture what each kernel takes: registers, shared
memory, and what a good kernel does not take, local memory and spilled registers. The libraries
come from the wheels nvidia-cuda-nvrtc and nvidia-cuda-runtime (`pip install -e '.[test]'`).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import itertools
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tinytensor.kernels.cuda import launch

from .shim import build

ARCHITECTURES = ("sm_80", "sm_90")


class Usage(NamedTuple):
    """Of one kernel: registers a thread; bytes a thread of local memory, and spilled into it; bytes
    of static shared memory a block."""

    registers: int
    stack: int
    spilled: int
    shared: int


class Target(NamedTuple):
    """One compilation."""

    file: str
    storage: str
    architecture: str
    defines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.file, self.storage.strip("_"), self.architecture, *self.defines])


def targets(*files: str) -> list[Target]:
    """All compilations of the sources named, or of all that there are."""
    files = files or tuple(sorted(path.stem for path in launch.FOLDER.glob("*.cu")))
    return [
        Target(file, storage, architecture, defines)
        for file in files
        for storage in storages(file)
        for defines in variants(file)
        for architecture in ARCHITECTURES
    ]


def storages(file: str) -> list[str]:
    """The storage types a source is written for; those of one without `real` are one."""
    text = (launch.FOLDER / f"{file}.cu").read_text()
    return launch.storages(file)[: None if re.search(r"\breal\b", text) else 1]


def variants(file: str) -> list[tuple[str, ...]]:
    """What launches may define: `#ifndef HEAD`, `#define HEAD 64  // 32, 64 or 128`; 0 or 1 where
    nothing is said."""
    text = (launch.FOLDER / f"{file}.cu").read_text()
    found = re.findall(r"^#ifndef (\w+)\n#define \1 \d+(?:  // (\d[\d, or]*)$)?", text, re.M)
    choices = [[f"{name}={n}" for n in re.findall(r"\d+", said or "0 1")] for name, said in found]
    return list(itertools.product(*choices))


# ------------------------------------------------------------------------------ NVRTC


def _wheels() -> Path | None:
    """Where the wheels nvidia-* lie."""
    spec = importlib.util.find_spec("nvidia")
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


@functools.cache
def paths() -> tuple[Path, Path] | None:
    """(libnvrtc, the folder of headers); None where they are not installed."""
    wheels = _wheels()
    libraries = sorted(wheels.glob("*/lib/libnvrtc.so.*")) if wheels else []
    headers = sorted(wheels.glob("*/include/cuda_fp16.h")) if wheels else []
    return (libraries[0], headers[0].parent) if libraries and headers else None


@functools.cache
def _library() -> ctypes.CDLL:
    found = paths()
    assert found, "NVRTC is not installed: pip install -e '.[test]'"
    for builtins in found[0].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins))  # NVRTC opens it by its bare name: it must be there already
    library = ctypes.CDLL(str(found[0]))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def options(target: Target) -> list[str]:
    """As CuPy's RawModule passes them (test_nvrtc.py asks it), and a report on each kernel."""
    found = paths()
    assert found
    defines = [f"-D{d}" for d in target.defines]
    return [
        "-std=c++17", f"-Dreal={target.storage}", *defines, f"-I{found[1]}", "-ftz=true",
        f"-arch={target.architecture}", "--device-as-default-execution-space", REPORT,
    ]  # fmt: skip


REPORT = "--ptxas-options=-v"


class Compiled(NamedTuple):
    """The machine code, and what the compiler says: errors and warnings, each kernel's usage."""

    ok: bool
    log: str
    usage: dict[str, Usage]

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.log.splitlines() if re.search(r"warning|error", line, re.I)]


def compiled(target: Target) -> Compiled:
    """Compiles; the same text with the same options is looked up, not compiled again."""
    text = launch.source(target.file)
    major, minor = ctypes.c_int(), ctypes.c_int()
    _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    key = json.dumps([text, options(target), major.value, minor.value, str(paths())])
    known = build.folder() / (hashlib.sha256(key.encode()).hexdigest()[:20] + ".nvrtc")
    if known.exists():
        ok, log = json.loads(known.read_text())
    else:
        ok, log = compile_text(text, options(target))
        if ok:
            own = known.with_suffix(f".{build.unique()}")
            own.write_text(json.dumps([ok, log]))
            own.replace(known)
    return Compiled(ok, log, _usage(log))


def compile_text(text: str, options: list[str]) -> tuple[bool, str]:
    """(whether there is machine code, the log)."""
    library, program = _library(), ctypes.c_void_p()

    def call(name: str, *args) -> int:
        return getattr(library, "nvrtc" + name)(*args)

    call("CreateProgram", ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
    given = [o.encode() for o in options]
    code = call("CompileProgram", program, len(given), (ctypes.c_char_p * len(given))(*given))
    size = ctypes.c_size_t()
    call("GetProgramLogSize", program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    call("GetProgramLog", program, log)
    if code == 0:
        call("GetCUBINSize", program, ctypes.byref(size))
    made = code == 0 and size.value > 0
    call("DestroyProgram", ctypes.byref(program))
    said = log.value.decode()
    return made, said if made else f"{library.nvrtcGetErrorString(code).decode()}\n{said}"


def _usage(log: str) -> dict[str, Usage]:
    """What ptxas -v says of each entry."""
    usage = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        name = part[: part.index("'")]

        def number(pattern: str, part: str = part) -> int:
            return sum(map(int, re.findall(pattern, part)))

        usage[name] = Usage(
            number(r"Used (\d+) registers"), number(r"(\d+) bytes stack frame"),
            number(r"(\d+) bytes spill (?:stores|loads)"), number(r"(\d+) bytes smem"),
        )  # fmt: skip
    return usage


def main(names: list[str]) -> int:
    """Prints the table; 1 where something does not compile."""
    print(f"{'kernel':40}{'registers':>10}{'shared':>8}{'local':>7}{'spilled':>9}")
    every = targets(*names)
    failed = 0
    with ThreadPoolExecutor() as pool:
        for target, result in zip(every, pool.map(compiled, every)):
            print(f"\n{target}")
            if not result.ok or result.warnings:
                failed |= not result.ok
                print(result.log)
            for name, u in result.usage.items():
                print(f"  {name:38}{u.registers:10}{u.shared:8}{u.stack:7}{u.spilled:9}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
