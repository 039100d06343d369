"""A launch in every order that the shim knows: the numbers must not depend on it.

    y, mean = run_everywhere(
        "norm", "layer_norm_forward", (rows,), (256,),
        (empty(x.shape, "bfloat16"), empty(rows, "float32"), x, weight, x.shape[1], 1e-5),
        real="bfloat16", shared=1024,
    )

is a kernel by itself, on NumPy's arrays, and `everywhere(f)` whatever f does on the stand-in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from tinytensor import backend
from tinytensor.kernels.cuda import launch

from . import shim
from .standin import RawModule


def dtype_of(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def empty(shape: int | tuple[int, ...], dtype: str) -> np.ndarray:
    """Memory nobody has written to: what an output starts as. A kernel that reads it is caught."""
    return shim.poisoned(np.empty(shape, dtype_of(dtype)))


def run_everywhere(
    file: str, entry: str, grid: tuple, block: tuple, args: Sequence[Any], *,
    real: str = "float32", shared: int = 0, source: str | None = None,
    constants: dict[str, int] | None = None, shift: int = 0,
) -> list[np.ndarray]:  # fmt: skip
    """What `entry` of FILE.cu leaves behind the pointers that are not const, in the entry's order.

    args       in the entry's order: arrays for pointers (None: a null pointer), of which each
               schedule gets copies; numbers for scalars
    real       the storage type;  shared: bytes of dynamic shared memory
    source     another text than the file's own;  constants: as kernel() takes them
    shift      where bit i is set, argument i is aligned to its elements alone, as a view can be;
               -1: all are. Else as an allocation is
    raises     KernelError for what the shim notices, AssertionError where schedules differ by a bit
    """
    text = launch.source(file) if source is None else source
    parameters = launch.entries(text)[entry]
    defines = [f"-D{name}={value}" for name, value in (constants or {}).items()]
    function = shim.Module(text, (f"-Dreal={launch.STORAGE[real]}", *defines)).get_function(entry)
    function.max_dynamic_shared_size_bytes = max(shared, launch.STATIC_SHARED)

    def outputs(schedule: tuple[int, int]) -> list[np.ndarray]:
        passed = []
        for i, (p, a) in enumerate(zip(parameters, args, strict=True)):
            if p.pointer:
                passed.append(None if a is None else _alone(a, shift >> i & 1))
            else:
                passed.append(np.dtype(launch.TYPES[p.type]).type(a))
        function(grid, block, passed, shared, schedule)
        written = [a for p, a in zip(parameters, passed) if p.pointer and not p.const]
        return [a for a in written if a is not None]

    return _agreed(outputs, shim.SCHEDULES, entry)


def everywhere(f: Callable[[], Sequence[Any]]) -> list[np.ndarray]:
    """The arrays that f() makes, on the host: the same bits in every schedule (on a GPU: twice)."""
    before = RawModule.schedule
    standin = backend.cupy().RawModule is RawModule

    def outputs(schedule: tuple[int, int]) -> list[np.ndarray]:
        RawModule.schedule = schedule
        try:
            return [a.get() for a in f()]
        finally:
            RawModule.schedule = before

    return _agreed(outputs, shim.SCHEDULES if standin else [before, before], "f")


def shifted(a: np.ndarray, by: int) -> Any:
    """`a` on the device, as a view that begins `by` elements behind what an allocation gives."""
    xp = backend.cupy()
    room = xp.zeros(a.size + by, a.dtype)
    room[by:] = xp.asarray(a.reshape(-1))
    return room[by:].reshape(a.shape)


def _alone(a: np.ndarray, shift: int) -> np.ndarray:
    """A copy that lies next to no other argument, `shift` elements beyond a multiple of 256."""
    room = np.empty(a.nbytes + 1024, np.uint8)
    start = -room.ctypes.data % 256 + 256 + shift * a.itemsize
    copy = room[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


def _agreed(
    outputs: Callable[[tuple[int, int]], list[np.ndarray]], schedules: Sequence, what: str
) -> list[np.ndarray]:
    found = [outputs(schedule) for schedule in schedules]
    for schedule, other in zip(schedules, found):
        for number, (a, b) in enumerate(zip(found[0], other, strict=True)):
            assert a.tobytes() == b.tobytes(), (
                f"{what}: array {number} is another in schedule {schedule} than in {schedules[0]}"
            )
    return found[0]
