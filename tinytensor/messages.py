"""What went wrong in an op, in the op's own words: NumPy's complaints translated.

Each is of the class that PyTorch raises, and names the op, its arguments and their shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .autograd import Variable, mode
from .errors import ArgumentError, DimError, DtypeError, ShapeError, TinyTensorError


def describe(names: list[str], args: tuple) -> str:
    """`x (4, 3) and y (5, 2)`"""
    parts = []
    for name, a in zip(names, args):
        if isinstance(a, Variable):
            parts.append(f"{name} {tuple(a.array.shape)}")
        elif isinstance(a, (float, int, bool)):
            parts.append(f"{name} = {a!r}")
        elif a is not None:
            parts.append(f"{name} {type(a).__name__}")
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def one_dtype(name: str, **tensors: Any) -> None:
    """DtypeError unless all of them (None aside) have one dtype, or autocast gives them one."""
    taken = None if mode.autocast is None else mode.autocast.taken
    first = None
    for which, t in tensors.items():
        if t is None:
            continue
        dtype = t.array.dtype if taken is None else taken(t)
        if first is None:
            first, name_of_first = dtype, which
        elif dtype is not first and dtype != first:
            raise DtypeError(
                f"{name}: {name_of_first} is {first} and {which} is {dtype}: cast one with "
                ".to(dtype)"
            )


def not_a_tensor(op: Any, args: tuple) -> Exception:
    """The complaint about the first argument that is neither a Tensor nor a number."""
    name, a = _foreign(op, args) or (op.argument_names(len(args))[0], args[0] if args else None)
    return ArgumentError(
        f"{op.name}: {name} must be a Tensor, got {type(a).__name__}: wrap it in tt.tensor(...)"
    )


def _foreign(op: Any, args: tuple) -> tuple | None:
    """Name and value of the first argument that cannot be one; None goes where it is a default."""
    for name, a in zip(op.argument_names(len(args)), args):
        if not isinstance(a, (Variable, float, int, np.generic)):
            if a is not None or name not in op.optional:
                return name, a
    return None


def explain(op: Any, args: tuple, error: Exception) -> Exception:
    """The exception to raise in place of what NumPy raised inside of op."""
    if isinstance(error, TinyTensorError):
        return located(error, op.name, op.argument_names(len(args)), args)
    what = describe(op.argument_names(len(args)), args)
    if isinstance(error, np.exceptions.AxisError):
        n = error.ndim or 0
        return DimError(
            f"{op.name}: {what}: dim {error.axis} is out of range: {n} dimensions "
            f"are numbered {-n} to {n - 1}"
        )
    if isinstance(error, IndexError):
        return DimError(f"{op.name}: {what}: {error}")
    if _foreign(op, args):
        return not_a_tensor(op, args)
    if isinstance(error, AttributeError):
        return error  # a mistake in the op
    if "broadcast" in str(error) and op.promote is not None:
        return ShapeError(f"{op.name}: {what} do not broadcast: {_clash(args)}")
    if isinstance(error, TypeError):
        return DtypeError(f"{op.name}: {what}: {error}")
    return ShapeError(f"{op.name}: {what}: {error}")


def located(error: Exception, name: str, names: list[str], args: tuple) -> Exception:
    """Where a dim is out of range the check itself knows neither function nor tensor."""
    if type(error) is DimError and str(error).startswith("dim "):
        error.args = (f"{name}: {describe(names, args)}: {error}",)
    return error


def _clash(args: tuple) -> str:
    shapes = [a.array.shape for a in args if isinstance(a, Variable)]
    for k in range(1, max(map(len, shapes)) + 1):
        sizes = [s[-k] for s in shapes if len(s) >= k]
        if len({n for n in sizes if n != 1}) > 1:
            listed = " and ".join(map(str, sizes))
            return f"at dim {-k} the sizes are {listed}; they must be equal, or one of them 1"
    return "their shapes differ"
