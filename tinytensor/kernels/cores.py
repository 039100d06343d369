"""How many cores this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def available_cores() -> int:
    """By its affinity, a container's share of the processors' time, and OMP_NUM_THREADS."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    for quota in quotas():
        cores = min(cores, max(1, int(quota)))  # 1.5 cores: a second thread would be held back
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdigit() and int(wanted) else cores


def quotas(root: Path = Path("/")) -> Iterator[float]:
    """The quotas, in cores, of this process's control groups and of all groups around them.

    /proc/self/cgroup has a line `number:controllers:path` for each hierarchy. Version 2, without
    controllers, has `quota period` in cpu.max, or `max period`; version 1 has two files, with a
    quota of -1 for none. Inside a container the path may be one that only its host can see.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        controllers, path = line.split(":", 2)[1:]
        if not controllers:
            places, names = (mounts, mounts / "unified"), ["cpu.max"]
        elif "cpu" in controllers.split(","):
            places = (mounts / controllers, mounts / "cpu")
            names = ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        group = Path(path.lstrip("/"))
        for place in places:
            for level in (group, *group.parents):
                try:
                    texts = [(place / level / name).read_text() for name in names]
                    quota, period = (int(n) for n in " ".join(texts).split())
                except (OSError, ValueError):  # not there, or "max"
                    continue
                if quota > 0 and period > 0:
                    yield quota / period
