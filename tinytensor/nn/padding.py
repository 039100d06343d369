"""Padding as modules. The maths is in ops/pad.py."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional as F
from .module import Module


class _Pad(Module):
    """F.pad of the last dims: (before, after) of the last, of the last but one ...; or a number"""

    dims: int
    mode = "constant"

    def __init__(self, padding: int | tuple[int, ...], value: float = 0.0):
        super().__init__()
        self.padding = (padding,) * (2 * self.dims) if isinstance(padding, int) else tuple(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}" + (f", value={self.value}" if self.value else "")


def _pad(name: str, dims: int, mode: str) -> Any:
    return type(name, (_Pad,), {"dims": dims, "mode": mode, "__module__": __name__,
                                "__doc__": _Pad.__doc__})  # fmt: skip


ConstantPad1d, ZeroPad1d = _pad("ConstantPad1d", 1, "constant"), _pad("ZeroPad1d", 1, "constant")
ConstantPad2d, ZeroPad2d = _pad("ConstantPad2d", 2, "constant"), _pad("ZeroPad2d", 2, "constant")
ConstantPad3d, ZeroPad3d = _pad("ConstantPad3d", 3, "constant"), _pad("ZeroPad3d", 3, "constant")
ReflectionPad1d, ReflectionPad2d, ReflectionPad3d = (
    _pad(f"ReflectionPad{n}d", n, "reflect") for n in (1, 2, 3)
)
ReplicationPad1d, ReplicationPad2d, ReplicationPad3d = (
    _pad(f"ReplicationPad{n}d", n, "replicate") for n in (1, 2, 3)
)
CircularPad1d, CircularPad2d, CircularPad3d = (
    _pad(f"CircularPad{n}d", n, "circular") for n in (1, 2, 3)
)
