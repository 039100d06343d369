"""Libraries made by g++, once per content: kept in a folder of this user, shared by processes."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
HEADERS, SOURCES = sorted(HERE.glob("*.h")), sorted(HERE.glob("*.cpp"))
COMMON = ["g++", "-std=c++17", "-fPIC", "-g1", "-gdwarf-4", "-fno-strict-aliasing"]
# of kernels: -fsanitize asks for calls of memory.cpp, not for the sanitizers' own libraries, which
# are not linked. A kernel's text is C++ as CUDA has it, with words that g++ need not know.
WATCHED = [
    "-O1", "-fsanitize=thread,alignment,bounds,shift",
    "-fsanitize=signed-integer-overflow,integer-divide-by-zero",
    "--param=tsan-instrument-func-entry-exit=0", "-Wno-attributes", "-Wno-unknown-pragmas",
    "-I", str(HERE), "-include", "cuda.h",
]  # fmt: skip
FORGOTTEN = 14 * 24 * 3600  # seconds after which an unused library is deleted


class CompileError(RuntimeError):
    """What g++ says of a source."""


def missing() -> str:
    """Why kernels cannot be run here; "" where they can."""
    if os.uname().sysname != "Linux" or os.uname().machine != "x86_64":
        return "the shim runs kernels on x86-64 Linux only"
    for program in ("g++", "addr2line", "nm"):
        if shutil.which(program) is None:
            return f"running CUDA kernels on the CPU needs {program}: apt-get install g++"
    return ""


@functools.cache
def folder() -> Path:
    """Where the libraries lie: nobody else's, since they are loaded."""
    path = Path(tempfile.gettempdir()) / f"cuda-on-cpu-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        path = Path(tempfile.mkdtemp(prefix="cuda-on-cpu-"))
    return path


def unique() -> str:
    """A suffix for a file that nobody else is writing."""
    return f"{os.getpid()}-{threading.get_ident()}"


@functools.cache
def _headers() -> str:
    return "".join(path.read_text() for path in HEADERS) + " ".join(COMMON + WATCHED)


def _library(text: str, make) -> Path:
    """The library for a text. `make` fills a folder's file; others see it when it is complete."""
    library = folder() / (hashlib.sha256((_headers() + text).encode()).hexdigest()[:20] + ".so")
    if library.exists():
        os.utime(library)
        return library
    _forget()
    with tempfile.TemporaryDirectory(dir=folder()) as own:
        made = Path(own) / "kernels.so"
        make(Path(own), made)
        os.replace(made, library)
    return library


def _forget() -> None:
    for path in folder().iterdir():
        try:
            if path.stat().st_mtime < time.time() - FORGOTTEN:
                path.unlink()
        except FileNotFoundError:  # another process was first
            pass


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stderr)


@functools.cache
def runtime() -> Path:
    """The scheduler and what watches over memory: one library for all kernels."""

    def make(own: Path, made: Path) -> None:
        _run(*COMMON, "-O2", "-shared", *map(str, SOURCES), "-o", str(made))

    return _library("".join(path.read_text() for path in SOURCES), make)


def kernels(code: str, defines: tuple[str, ...]) -> Path:
    """A library of C++ code that begins with cuda.h."""

    def make(own: Path, made: Path) -> None:
        source, compiled = own / "kernels.cpp", own / "kernels.o"
        source.write_text(code)
        _run(*COMMON, *WATCHED, *defines, "-c", str(source), "-o", str(compiled))
        _run("g++", "-shared", str(compiled), str(runtime()), "-o", str(made))

    return _library("\0".join([code, *defines, str(runtime())]), make)
