"""NumPy's names over Tensors: the `xp` of a rule or a forward that is itself differentiated.

Only what rules and forwards use. Everything here is an op, so everything is recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backend
from .node import Variable, late, wrap
from .ops import elementwise as e
from .ops import index, linalg, reduce, shape
from .ops import transcendental as f

__name__ = "tensor"  # in place of "numpy" or "cupy": op.implementations knows no such module

exp, log, sqrt, sin, cos, tanh = e.exp, e.log, e.sqrt, e.sin, e.cos, e.tanh
abs, sign, where, maximum, minimum = e.abs, e.sign, e.where, e.maximum, e.minimum
isnan, isinf, isfinite = e.isnan, e.isinf, e.isfinite
cosh, sinh, expm1, log1p = f.cosh, f.sinh, f.expm1, f.log1p
matmul, sum, flip = linalg.matmul, reduce.sum, shape.flip
amax, amin = reduce.amax, reduce.amin
swapaxes, moveaxis, broadcast_to = shape.transpose, shape.movedim, shape.expand
take_along_axis = index.take_along_axis


def asarray(x: Any, dtype: Any = None) -> Any:
    """A Tensor of a Tensor, of an array on any device, or of numbers."""
    if isinstance(x, np.generic) or not hasattr(x, "dtype"):
        x = np.asarray(x, dtype)
    x = x if isinstance(x, Variable) else wrap(x)
    return x if dtype is None or x.array.dtype == dtype else e.cast(x, dtype=dtype)


def zeros_like(x: Any) -> Any:
    return full_like(x, 0)


def ones_like(x: Any) -> Any:
    return full_like(x, 1)


def full_like(x: Any, value: Any) -> Any:
    return wrap(backend.full_like(x.array, value))


def expand_dims(x: Any, axis: Any) -> Any:
    for a in sorted(axis if isinstance(axis, tuple) else (axis,)):
        x = shape.unsqueeze(x, a)
    return x


def concatenate(xs: Any, axis: int = 0) -> Any:
    return shape.cat(list(xs), axis)


def stack(xs: Any, axis: int = 0) -> Any:
    return shape.stack(list(xs), axis)


def reshape(x: Any, shape_: Any) -> Any:
    return shape.reshape(x, shape_)


def transpose(x: Any, axes: Any) -> Any:
    return shape.permute(x, axes)


def __getattr__(name: str) -> Any:
    """Other names of NumPy's, for the rules of a student's own op: as interop knows them."""
    import tinytensor as tt

    from .interop import UFUNC_NAMES, numpy_functions

    original = getattr(np, name, None)
    found: Any
    if isinstance(original, np.ufunc):
        found = getattr(tt, UFUNC_NAMES.get(name, name), None)
    elif name in _CONSTANT:
        return lambda *args, **kwargs: wrap(getattr(np, name)(*args, **kwargs))
    elif isinstance(original, (type, float)) or name == "newaxis":
        return original
    else:
        found = numpy_functions().get(name)
    if found is None:
        raise AttributeError(
            f"xp.{name} cannot be differentiated: write the rule in operations of tinytensor, or "
            f"make {name} an op and call {name}.on(xp, ...)"
        )
    return found


_CONSTANT = ("zeros", "ones", "full", "eye", "arange", "linspace")

late.namespace = __import__("sys").modules[__package__ + ".namespace"]
