"""A function that launches kernels, in every schedule of the shim; what kernels it launched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinytensor import backend
from tinytensor.kernels.cuda.launch import Kernel

from . import shim
from .standin import RawModule


def everywhere(f: Callable[[], Sequence[Any]]) -> list[np.ndarray]:
    """The arrays that f() makes, on the host: the same bits in every schedule (on a GPU: twice)."""
    before, found = RawModule.schedule, []
    standin = backend.cupy().RawModule is RawModule
    for schedule in shim.SCHEDULES if standin else (before, before):
        RawModule.schedule = schedule
        try:
            found.append([a.get() for a in f()])
        finally:
            RawModule.schedule = before
    for other in found[1:]:
        for number, (a, b) in enumerate(zip(found[0], other, strict=True)):
            assert a.tobytes() == b.tobytes(), f"array {number} depends on the schedule"
    return found[0]


def shifted(a: np.ndarray, by: int) -> Any:
    """`a` on the device, as a view that begins `by` elements behind what an allocation gives."""
    xp = backend.cupy()
    room = xp.zeros(a.size + by, a.dtype)
    room[by:] = xp.asarray(a.reshape(-1))
    return room[by:].reshape(a.shape)


class launched:
    """`with launched() as names:` the entries that are launched inside, in their order."""

    def __enter__(self) -> list[str]:
        names: list[str] = []
        self.call = call = Kernel.__call__

        def record(kernel: Kernel, *args: Any, **kwargs: Any) -> None:
            names.append(kernel.name)
            call(kernel, *args, **kwargs)

        Kernel.__call__ = record  # type: ignore[method-assign]
        return names

    def __exit__(self, *exc: object) -> None:
        Kernel.__call__ = self.call  # type: ignore[method-assign]
