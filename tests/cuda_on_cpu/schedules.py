"""One launch of a kernel in every order that the shim knows: the numbers must not depend on it.

    y, mean = run_everywhere(
        "norm", "layer_norm_forward", (rows,), (256,),
        (empty(x.shape, "bfloat16"), empty(rows, "float32"), x, weight, x.shape[1], 1e-5),
        real="bfloat16", shared=1024,
    )

`args` are in the entry's order: NumPy arrays for pointers (None is a null pointer), Python numbers
for scalars. Nothing passed is changed: each schedule gets copies. What comes back are the arrays
behind the pointers that are not const, as they were left, in the entry's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from tinytensor.kernels.cuda import launch

from . import shim


def dtype_of(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def empty(shape: int | tuple[int, ...], dtype: str) -> np.ndarray:
    """Memory nobody has written to, which a kernel had better not read. What an output starts as."""
    return shim.poisoned(np.empty(shape, dtype_of(dtype)))


def run_everywhere(
    file: str, entry: str, grid: tuple, block: tuple, args: Sequence[Any], *,
    real: str = "float32", shared: int = 0, source: str | None = None,
    constants: dict[str, int] | None = None,
) -> list[np.ndarray]:  # fmt: skip
    """The outputs of `entry` of FILE.cu with storage type `real`; source: another text than its own;
    constants: as kernel() takes them.

    raises  RuntimeError for what the shim noticed, AssertionError where two schedules differ by a bit
    """
    text = launch.source(file) if source is None else source
    parameters = launch.entries(text)[entry]
    defines = [f"-D{name}={value}" for name, value in (constants or {}).items()]
    function = shim.Module(text, (f"-Dreal={launch.STORAGE[real]}", *defines)).get_function(entry)
    function.max_dynamic_shared_size_bytes = max(shared, launch.STATIC_SHARED)
    first: list[np.ndarray] | None = None
    for schedule in shim.SCHEDULES:
        passed = [
            (None if a is None else a.copy()) if p.pointer else np.dtype(launch.TYPES[p.type]).type(a)
            for p, a in zip(parameters, args, strict=True)
        ]
        function(grid, block, passed, shared, schedule)
        outputs = [
            a for p, a in zip(parameters, passed) if p.pointer and not p.const and a is not None
        ]
        first = first or outputs
        for number, (a, b) in enumerate(zip(first, outputs)):
            assert a.tobytes() == b.tobytes(), (
                f"{entry}: output {number} is another in schedule {schedule} than in "
                f"{shim.SCHEDULES[0]}"
            )
    return first or []
