"""repr of a Tensor, character for character as PyTorch prints it.

    tensor([[1.0000, 2.5000],
            [0.0000, 3.0000]], requires_grad=True)

One format for all numbers: whole ones as `2.`, others with 4 decimals, or with exponents if they
are very large, very small or far apart. Above 1000 elements only the corners are shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import backend, dtypes
from .errors import ArgumentError


@dataclass
class Options:
    """What set_printoptions sets."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_options = Options()
_PROFILES = {
    "default": Options(),
    "short": Options(precision=2, edgeitems=2),
    "full": Options(threshold=math.inf),
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """How tensors print from now on; None leaves an option as it is, but for sci_mode.

    precision  decimals;  linewidth  characters per line
    threshold  more elements than this are summarised, by edgeitems at each end of each dimension
    profile    'default', 'short' or 'full': a set of the above to start from
    sci_mode   exponents always (True), never (False), or where they help (None)
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ArgumentError(
                f"set_printoptions: profile {profile!r} is not one of {', '.join(_PROFILES)}"
            )
        _options.__dict__.update(asdict(_PROFILES[profile]))
    given = {
        "precision": precision, "threshold": threshold, "edgeitems": edgeitems,
        "linewidth": linewidth,
    }  # fmt: skip
    _options.__dict__.update({k: v for k, v in given.items() if v is not None})
    _options.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    return asdict(_options)


@contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """set_printoptions(**options) for the length of a `with` block."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


def tensor_repr(t: Any) -> str:
    array = backend.to_numpy(t.array)
    kind = type(t).__name__
    prefix = f"{'tensor' if kind in ('Tensor', 'Parameter') else kind}("
    default = dtypes.get_default_dtype()
    notes = []
    if t.is_cuda:
        notes.append(f"device='{t.device}'")
    if array.size:
        body = _body(array, len(prefix))
        usual = [default, dtypes.int64, dtypes.bool]
        if not _options.edgeitems:
            notes.append(f"size={array.shape}")
    else:  # no elements to tell the dtype or the shape
        body, usual = "[]", [default]
        if array.ndim != 1:
            notes.append(f"size={array.shape}")
    if array.dtype not in usual:
        notes.append(f"dtype=tinytensor.{array.dtype}")
    if t.grad_fn is not None:
        notes.append(f"grad_fn=<{backward_name(t.grad_fn.op.name)}>")
    elif t.requires_grad:
        notes.append("requires_grad=True")
    return _with_notes(prefix + body, notes, len(prefix))


def backward_name(op: str) -> str:
    """PyTorch's name of an op's backward: MulBackward0."""
    return "".join(part.capitalize() for part in op.split("_")) + "Backward0"


def _with_notes(text: str, notes: list[str], indent: int) -> str:
    width = len(text) - text.rfind("\n") + 1  # of the last line so far, as PyTorch counts it
    for note in notes:
        if width + len(note) + 2 > _options.linewidth:
            text += ",\n" + " " * indent + note
            width = indent + len(note)
        else:
            text += ", " + note
            width += len(note) + 2
    return text + ")"


# ------------------------------------------------------------------------------ the numbers


def _body(array: np.ndarray, indent: int) -> str:
    if array.dtype.kind == "V":
        array = array.astype(np.float32)  # bfloat16: every value has its float32
    cut = array.size > _options.threshold
    write, width = number_format(_corners(array) if cut else array)
    return _nested(array, indent, cut, write, width)


def number_format(array: np.ndarray) -> tuple[Callable, int]:
    """How to write each number of the array, padded to a common width, and that width."""
    if array.dtype.kind != "f":
        width = max((len(str(v)) for v in array.ravel().tolist()), default=1)
        return lambda v: f"{v!s:>{width}}", width
    values = array.astype(np.float64).ravel()
    values = values[np.isfinite(values) & (values != 0)]
    style, point = ".0f", "."
    if values.size:
        small, large = np.abs(values).min(), np.abs(values).max()
        if _options.sci_mode is None:
            with np.errstate(over="ignore"):
                scientific = large / small > 1000 or large > 1e8 or small < 1e-4
        else:
            scientific = _options.sci_mode
        if scientific:
            style, point = f".{_options.precision}e", ""
        elif (values != np.ceil(values)).any():
            style, point = f".{_options.precision}f", ""
    width = max((len(format(v, style) + point) for v in values.tolist()), default=1)

    def write(v: float) -> str:
        return (format(v, style) + (point if math.isfinite(v) else "")).rjust(width)

    return write, width


def _corners(array: np.ndarray) -> np.ndarray:
    """What is shown of a large array."""
    edge = _options.edgeitems
    for axis, n in enumerate(array.shape):
        if n > 2 * edge:
            array = array.take([*range(edge), *range(n - edge, n)], axis)
    return array


def _nested(array: np.ndarray, indent: int, cut: bool, write: Callable, width: int) -> str:
    """The array in brackets, a row on each line, a blank line between matrices."""
    if array.ndim == 0:
        return write(array.item())
    n, edge = len(array), _options.edgeitems
    cut_here = cut and n > 2 * edge
    kept = [*range(edge), *range(n - edge, n)] if cut_here else range(n)
    if array.ndim > 1:
        parts = [_nested(array[i], indent + 1, cut, write, width) for i in kept]
        if cut_here:
            parts.insert(edge, "...")
        between = "," + "\n" * (array.ndim - 1) + " " * (indent + 1)
        return "[" + between.join(parts) + "]"
    parts = [write(array[i].item()) for i in kept]
    if cut_here:
        parts.insert(edge, " ..." if edge else "...")
    per_line = max(1, (_options.linewidth - indent) // (width + 2))
    rows = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(rows) + "]"
