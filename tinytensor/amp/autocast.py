"""autocast: matrix products in half precision, what would lose by it in float32.

    with tt.autocast("cuda"):                    # bfloat16, or dtype=tt.float16
        loss = model(x).loss(y)
    loss.backward()                              # outside: gradients follow the forward's dtypes

Parameters stay float32, and so do their gradients: an op casts what it takes, by `cast`, through
which the gradient returns. precision.py lists which ops do; the others take what comes, and join
unlike dtypes in the wider one.

Unlike PyTorch, what an embedding looks up is cast too, so that all activations are half as large;
LayerNorm and RMSNorm keep the dtype of their input beside a float32 weight; and reductions and
losses give float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..apply import apply
from ..backend import ndarray
from ..dtypes import bfloat16, float32
from ..errors import ArgumentError, DtypeError
from ..modes import decorate, mode
from ..node import Variable
from ..op import REGISTRY
from ..precision import BESIDE

DEVICES = ("cuda", "cpu")


class Casts:
    """What is in force: the dtype of each type of device, and the casts made so far."""

    __slots__ = ("dtypes", "cached", "made")

    def __init__(self, dtypes: dict[str, Any], cached: bool, made: dict):
        self.dtypes, self.cached, self.made = dtypes, cached, made

    def again(self) -> Casts:
        """The same with nothing made yet, for code that is run again after the context ended."""
        return Casts(self.dtypes, self.cached, {})

    def taken(self, t: Any, lower: bool = True) -> Any:
        """The dtype that a Tensor is taken in. Only floats of up to 32 bits are cast."""
        dtype = t.array.dtype
        if dtype.kind not in "fV" or dtype.itemsize > 4:
            return dtype
        wanted = self.dtypes["cpu" if type(t.array) is ndarray else "cuda"]
        return dtype if wanted is None else wanted if lower else float32

    def of(self, op: Any, args: tuple) -> tuple:
        """The arguments as an op takes them. Where no gradient is asked for, parameters are cast
        here, once for all tokens that are generated."""
        lower = op.autocast == "lower"
        if op.name in BESIDE and mode.enabled and op.implementations["cupy"] is not op.forward:
            if type(args[0].array) is not ndarray:
                return (self.cast(args[0]), *args[1:])
        return tuple([self.cast(a, lower) if isinstance(a, Variable) else a for a in args])

    def cast(self, t: Any, lower: bool = True) -> Any:
        """t in the dtype it is taken in. A parameter is cast once, unless it has changed since."""
        dtype = self.taken(t, lower)
        if dtype == t.array.dtype:
            return t
        if not (self.cached and lower and t.requires_grad and t._node is None):
            return _cast(t, dtype)
        key = id(t), mode.enabled, dtype
        now = t.array, t._version[0]
        known = self.made.get(key)
        if known is None or known[1] is not now[0] or known[2] != now[1]:
            known = self.made[key] = (_cast(t, dtype), *now, t)  # t: so that its id stays its own
        return known[0]


def _cast(t: Any, dtype: Any) -> Any:
    return apply(REGISTRY["cast"], (t,), {"dtype": dtype})


class autocast:
    """Inside, ops cast their floating arguments; a `with` block or a decorator.

    device_type    "cuda" or "cpu": the arguments it is about
    dtype          bfloat16, on CUDA alone, or float16
    enabled        False: ops take what comes, also inside of another autocast
    cache_enabled  cast each parameter once, and keep that until the outermost autocast ends

    Nests; thread-local. Leave it before backward. Raises ArgumentError or DtypeError.
    """

    def __init__(
        self, device_type: str, dtype: Any = None, enabled: bool = True,
        cache_enabled: bool | None = None,
    ):  # fmt: skip
        name = getattr(device_type, "type", device_type)
        if name not in DEVICES:
            raise ArgumentError(f"autocast: device_type must be 'cuda' or 'cpu', got {name!r}")
        self.device_type, self.enabled, self.cache_enabled = name, bool(enabled), cache_enabled
        self.dtype = self._checked(dtype) if enabled else None
        self.before: list[Casts | None] = []

    def _checked(self, dtype: Any) -> Any:
        dtype = bfloat16() if dtype is None else np.dtype(dtype)
        if dtype.name not in ("float16", "bfloat16"):
            raise DtypeError(f"autocast: dtype must be bfloat16 or float16, got {dtype}")
        if dtype.name == "bfloat16" and self.device_type == "cpu":
            raise DtypeError("autocast: NumPy has no bfloat16: on the CPU, dtype must be float16")
        return dtype

    def __enter__(self) -> None:
        outer = mode.autocast
        self.before.append(outer)
        dtypes = dict.fromkeys(DEVICES) if outer is None else outer.dtypes
        dtypes = {**dtypes, self.device_type: self.dtype}
        cached = True if outer is None else outer.cached
        cached = cached if self.cache_enabled is None else self.cache_enabled
        in_force = any(d is not None for d in dtypes.values())
        made = {} if outer is None else outer.made
        mode.autocast = Casts(dtypes, cached, made) if in_force else None

    def __exit__(self, *exc: object) -> None:
        mode.autocast = self.before.pop()

    def __call__(self, f: Callable) -> Callable:
        return decorate(lambda: self, f)


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether ops on this type of device cast their arguments here."""
    return mode.autocast is not None and mode.autocast.dtypes[device_type] is not None


def get_autocast_dtype(device_type: str = "cuda") -> Any:
    """What they cast them to; None where autocast is not enabled."""
    return None if mode.autocast is None else mode.autocast.dtypes[device_type]


def is_autocast_cache_enabled() -> bool:
    return mode.autocast is None or mode.autocast.cached

