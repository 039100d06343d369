"""--dtype: what products are computed in, and where that can be.

    float32     everywhere
    tf32        float32, whose products round their factors to 10 bits of mantissa
    bfloat16    activations and products in bfloat16: tt.autocast
    float16     the same in float16, whose small gradients need a scaled loss: tt.amp.GradScaler

Weights, their gradients, the optimizer's moments, sums and losses are float32 in all of them, so a
checkpoint is one of float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import tinytensor as tt

from .errors import UserError

HALF = ("bfloat16", "float16")
NEEDS = {"float16": 53, "tf32": 80, "bfloat16": 80}  # compute capability, times ten


class Precision:
    """What --dtype means on a device.

    raises  UserError where the device has no such numbers
    """

    def __init__(self, dtype: str, device: Any):
        self.dtype, self.device = dtype, tt.device(device)
        if dtype == "float32":
            return
        if self.device.type != "cuda":
            raise UserError(f"--dtype {dtype}: only a GPU computes in it, and this is on the CPU: "
                            "leave it out, or give --device cuda")  # fmt: skip
        has = capability(self.device)
        if has < NEEDS[dtype]:
            raise UserError(f"--dtype {dtype}: {self.device} has compute capability {has / 10}, "
                            f"and {dtype} needs {NEEDS[dtype] / 10}: use --dtype "
                            f"{possible(has)[-1]}")  # fmt: skip
        if dtype == "bfloat16" and not find_spec("ml_dtypes"):
            raise UserError("--dtype bfloat16: needs a package that is not installed: "
                            "pip install ml_dtypes")  # fmt: skip

    @property
    def half(self) -> bool:
        return self.dtype in HALF

    def scaler(self) -> tt.amp.GradScaler | None:
        """For float16's losses."""
        return tt.amp.GradScaler(self.device) if self.dtype == "float16" else None

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside, models compute in it."""
        before = tt.get_float32_matmul_precision()
        if self.dtype == "tf32":
            tt.set_float32_matmul_precision("high")
        dtype = tt.float16 if self.dtype == "float16" else None  # else bfloat16
        try:
            with tt.autocast("cuda", dtype, enabled=self.half):
                yield
        finally:
            tt.set_float32_matmul_precision(before)


def possible(capability: int) -> list[str]:
    """What --dtype can be on a GPU, the best last."""
    return ["float32", *(dtype for dtype, needs in NEEDS.items() if needs <= capability)]


def capability(device: Any) -> int:
    """Of a GPU: 90 for 9.0."""
    return int(tt.backend.cupy().cuda.Device(device.index).compute_capability)
