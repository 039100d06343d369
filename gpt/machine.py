"""How much memory this process may have: of the machine, of its container, of its GPU.

Needs the standard library alone, for gpt.doctor.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def memory_bytes() -> tuple[int, int | None]:
    """Available and total, or (0, None) where the system does not say.

    A limit of a control group, such as a container's, counts where it is lower, and so does one of
    the shell (ulimit -v).
    """
    available, total = of_the_machine()
    if total is None:
        return 0, None
    for limit, used in limits():
        if limit < total:
            total = limit
        available = min(available, max(limit - used, 0))
    return available, total


def of_the_machine() -> tuple[int, int | None]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        table = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return table["MemAvailable"], table["MemTotal"]
    except (OSError, KeyError, ValueError, IndexError):
        pass
    if sys.platform == "darwin":
        size = subprocess.run(["sysctl", "-n", "hw.memsize"], capture_output=True, text=True)
        return int(size.stdout), int(size.stdout)
    return 0, None


def limits() -> Iterator[tuple[int, int]]:
    """(limit, used) of each control group that this process is in, and of its address space."""
    for folder in groups():
        for names in (("memory.max", "memory.current"),
                      ("memory.limit_in_bytes", "memory.usage_in_bytes")):  # fmt: skip
            try:
                limit, used = (int((folder / name).read_text()) for name in names)
                # what the page cache holds of files is given back when it is needed
                yield limit, used - cached(folder)
            except (OSError, ValueError):  # not this version of them, or "max"
                continue
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        if limit != resource.RLIM_INFINITY:
            yield limit, pages * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        pass


def groups() -> Iterator[Path]:
    """The control groups of memory that this process is in, from its own to the root."""
    try:
        lines = OWN.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = CGROUPS / controllers
            own = root / path.lstrip("/")
            while own.is_relative_to(root):
                yield own
                own = own.parent


def cached(folder: Path) -> int:
    """Bytes of files in a group's memory, on the list of those that are given back first."""
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def device_memory(device: Any) -> tuple[int, int | None]:
    """Available and total memory of a tinytensor Device."""
    if device.type != "cuda":
        return memory_bytes()
    from tinytensor import cuda

    free, total = cuda.mem_get_info(device)
    return free + cuda.memory_reserved(device) - cuda.memory_allocated(device), total
