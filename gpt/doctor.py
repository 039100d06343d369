"""Is this machine ready? `python -m gpt.doctor` looks, and says what to do where it is not.

Runs with the standard library alone, so that it can answer when nothing else works. Exit code 1
where something stands in the way of training on the CPU; a missing GPU does not.
"""

import ctypes
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from .machine import memory_bytes

GB = 1 << 30
INSTALL = "pip install -e '.[train]', or make train"


class Finding(NamedTuple):
    """One line of the report. `fix`: what to do, if anything; `needed`: training waits for it."""

    what: str
    found: str
    fix: str | None = None
    needed: bool = True

    def __str__(self) -> str:
        mark = "OK " if self.fix is None else "FIX" if self.needed else " - "
        lines = f"{mark}  {self.what:<10} {self.found}"
        return lines if self.fix is None else f"{lines}\n{'':16} -> {self.fix}"


def python() -> Iterator[Finding]:
    found = f"{platform.python_version()} at {sys.executable}"
    old = sys.version_info < (3, 11)  # noqa: UP036  (the doctor may be run by an old one)
    yield Finding("Python", found, "install Python 3.11 or newer" if old else None)
    narrow = sys.maxsize < 2**32
    yield Finding("system", f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
                  "install a 64-bit Python" if narrow else None)  # fmt: skip


def packages() -> Iterator[Finding]:
    for name in ("rich", "matplotlib", "safetensors", "pooch"):
        try:
            import_module(name)
            yield Finding(name, version(name))
        except (ImportError, PackageNotFoundError) as error:
            yield Finding(name, f"cannot be imported: {error}", INSTALL)


def numpy() -> Iterator[Finding]:
    try:
        import numpy as np
    except ImportError as error:
        yield Finding("NumPy", f"cannot be imported: {error}".splitlines()[0], INSTALL)
        return
    old = int(np.__version__.split(".")[0]) < 2
    yield Finding("NumPy", np.__version__, "pip install 'numpy>=2.0'" if old else None)
    built: Any = np.show_config(mode="dicts")
    blas = built["Build Dependencies"]["blas"]
    speed = matmul_speed(np)
    slow = speed < 2 * (os.cpu_count() or 1)  # no BLAS at all gives about 1 per core
    yield Finding("BLAS", f"{blas['name']} {blas['version']}, {speed:.0f} GFLOP/s in float32",
                  "pip install --force-reinstall numpy: it brings OpenBLAS" if slow else None,
                  needed=False)  # fmt: skip
    threads, cores = blas_threads(), usable_cores()
    limit = [f"{v}={os.environ[v]}" for v in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS",
             "MKL_NUM_THREADS") if v in os.environ]  # fmt: skip
    few = threads is not None and threads < cores
    yield Finding("threads", f"{threads or 'an unknown number'} for BLAS, {cores} cores usable",
                  f"unset {limit[0].split('=')[0]} ({', '.join(limit)}) to use all cores"
                  if few and limit else None, needed=False)  # fmt: skip


def matmul_speed(np: Any, n: int = 768) -> float:
    """GFLOP/s of an n x n float32 matrix product, the best of five."""
    x = np.ones((n, n), np.float32)
    times = []
    for _ in range(5):
        start = perf_counter()
        x @ x
        times.append(perf_counter() - start)
    return 2 * n**3 / min(times) / 1e9


def blas_threads() -> int | None:
    """Threads of the OpenBLAS in this process; None where there is none to ask."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    for path in {line.split()[-1] for line in maps.splitlines() if "openblas" in line}:
        library = ctypes.CDLL(path)
        for prefix in ("scipy_openblas", "openblas"):
            for suffix in ("64_", ""):
                ask = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
                if ask is not None:
                    return int(ask())
    return None


def usable_cores() -> int:
    """Cores this process may run on: a container's or a batch system's share, not the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def engine() -> Iterator[Finding]:
    try:
        start = perf_counter()
        import_module("tinytensor")
        yield Finding("tinytensor", f"imported in {perf_counter() - start:.2f} s")
    except ImportError as error:
        yield Finding("tinytensor", f"cannot be imported: {error}", INSTALL)


def cuda() -> Iterator[Finding]:
    """Driver, GPU and CuPy: each optional, and each of use only with the one before."""
    driver = driver_cuda_version()
    if driver is None:
        yield Finding("driver", "no NVIDIA driver", "only for a GPU: install NVIDIA's driver; "
                      "--device cpu needs none", needed=False)  # fmt: skip
    else:
        yield Finding("driver", f"NVIDIA's, up to CUDA {driver[0]}.{driver[1]}")
    if not installed("cupy"):
        extra = "cuda13" if driver is None or driver[0] >= 13 else "cuda12"
        yield Finding("CuPy", "not installed",
                      f"only for a GPU: pip install -e '.[{extra}]'", needed=False)  # fmt: skip
        return
    try:
        backend: Any = import_module("tinytensor.backend")
        problem = backend.cuda_problem()
    except ImportError as error:
        problem = f"tinytensor cannot be imported: {error}"
    if problem:
        yield Finding("CuPy", "cannot be used", problem, needed=False)
        return
    cupy = backend.cupy()
    yield Finding("CuPy", cupy.__version__)
    for index in range(cupy.cuda.runtime.getDeviceCount()):
        properties = cupy.cuda.runtime.getDeviceProperties(index)
        free, total = cupy.cuda.Device(index).mem_info
        major, minor = properties["major"], properties["minor"]
        dtypes = import_module("gpt.precision").possible(10 * major + minor)
        yield Finding("GPU", f"cuda:{index} {properties['name'].decode()}, compute capability "
                      f"{major}.{minor}, {free / GB:.1f} of {total / GB:.1f} GB free; --dtype "
                      f"{', '.join(dtypes)}")  # fmt: skip
        if "bfloat16" in dtypes and not installed("ml_dtypes"):
            yield Finding("ml_dtypes", "not installed", "only for --dtype bfloat16: pip install "
                          "ml_dtypes", needed=False)  # fmt: skip


def installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def driver_cuda_version() -> tuple[int, int] | None:
    """The newest CUDA that the installed driver runs, asked of the driver itself."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        number = ctypes.c_int()
        if library.cuDriverGetVersion(ctypes.byref(number)) == 0:
            return number.value // 1000, number.value % 1000 // 10
    except (OSError, AttributeError):
        pass
    return None


def lzma() -> Iterator[Finding]:
    try:
        import lzma

        works = lzma.decompress(lzma.compress(b"x")) == b"x"
        yield Finding("lzma", "reads .xz archives" if works else "is broken")
    except ImportError:
        yield Finding("lzma", "this Python was built without it: no .xz archives",
                      "install liblzma's headers (liblzma-dev, xz-devel), then build Python again; "
                      "or use your system's Python", needed=False)  # fmt: skip


def memory() -> Iterator[Finding]:
    available, total = memory_bytes()
    if total is None:
        yield Finding("memory", "this system does not say")
        return
    low = available < 1 * GB
    yield Finding("memory", f"{available / GB:.1f} of {total / GB:.1f} GB available",
                  "close other programs: the default run wants 1 GB" if low else None)  # fmt: skip


def disk() -> Iterator[Finding]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    yield Finding("disk", f"{free / GB:.1f} GB free in {here}",
                  "free some, or give --out on another disk" if free < GB else None)  # fmt: skip
    if not os.access(here, os.W_OK):
        yield Finding("disk", f"{here} cannot be written",
                      "change to a folder of yours, or give --out")  # fmt: skip


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python, numpy, packages, engine, lzma, cuda, memory, disk,
)  # fmt: skip


def examine() -> Iterator[Finding]:
    """Every finding; a check that itself fails is one, and stops no other."""
    for check in CHECKS:
        try:
            yield from check()
        except Exception as error:
            yield Finding(check.__name__, f"could not be examined: {type(error).__name__}: {error}",
                          "report this", needed=False)  # fmt: skip


def main() -> int:
    if len(sys.argv) > 1:
        wants_help = sys.argv[1] in ("-h", "--help")
        usage = "usage: python -m gpt.doctor    (takes no arguments)"
        print(usage if not wants_help else f"{usage}\n\n{__doc__}".rstrip())
        return 0 if wants_help else 2
    ready = True
    for finding in examine():
        print(finding, flush=True)
        ready = ready and (finding.fix is None or not finding.needed)
    print("\nReady: python -m gpt.train" if ready else "\nNot ready: see the lines marked FIX.")
    return 0 if ready else 1


if __name__ == "__main__":
    raise SystemExit(main())
