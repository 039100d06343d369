"""A rule as its author wrote it, an array as a reader wants it: for errors and explanations."""

from __future__ import annotations

import ast
import linecache
import os
import textwrap
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from . import backend

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


# ------------------------------------------------------------------------------ source


def formula(function: Callable) -> str:
    """`g * y` of `lambda g, y: g * y` and of a def that only returns it, else the def's body.

    '' where there is no source.
    """
    node = _syntax(function)
    if node is None:
        return ""
    lines = linecache.getlines(function.__code__.co_filename)
    value = node.body if isinstance(node, ast.Lambda) else None
    if value is None and len(node.body) == 1 and isinstance(node.body[0], ast.Return):
        value = node.body[0].value
    if value is not None:
        return " ".join((ast.get_source_segment("".join(lines), value) or "").split())
    last = node.body[-1].end_lineno or len(lines)
    text = "".join(lines[node.body[0].lineno - 1 : last])
    return textwrap.dedent(text).strip()


def place(function: Callable) -> str:
    """`tinytensor/ops/elementwise.py:47` of a rule."""
    code = function.__code__
    return f"{short_path(code.co_filename)}:{code.co_firstlineno}"


def short_path(path: str) -> str:
    """A file of this package from its root on, one below the current folder from there on."""
    for root, inside in ((_HOME, _HOME + os.sep + "tinytensor"), (os.getcwd(), os.getcwd())):
        if path.startswith(inside + os.sep):
            return os.path.relpath(path, root)
    return path


def _syntax(function: Callable) -> Any:
    """The lambda or def that function was compiled from, found by its exact position."""
    code = function.__code__
    spots = [(line, column) for line, _, column, _ in code.co_positions() if line and column]
    found = None
    for node in _functions(code.co_filename):  # a lambda inside of a lambda comes after it
        decorators = getattr(node, "decorator_list", ())
        body = node.body if isinstance(node.body, list) else [node.body]
        low = (body[0].lineno, body[0].col_offset)
        high = (body[-1].end_lineno, body[-1].end_col_offset)
        if min([node.lineno, *(d.lineno for d in decorators)]) == code.co_firstlineno and all(
            low <= spot <= high for spot in spots
        ):
            found = node
    return found


@lru_cache(maxsize=64)
def _functions(filename: str) -> list:
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:
        return []
    return [n for n in ast.walk(tree) if isinstance(n, (ast.Lambda, ast.FunctionDef))]


# ------------------------------------------------------------------------------ numbers


def size(bytes_: int) -> str:
    """`1.5 MiB`"""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if bytes_ >= 1 << power:
            return f"{bytes_ / (1 << power):.1f} {unit}"
    return f"{bytes_} B"


def as_floats(array: Any) -> np.ndarray:
    """Any array of numbers on the CPU, as floats NumPy can compare (bfloat16 becomes float32)."""
    array = backend.to_numpy(array)
    return array.astype(np.float32) if array.dtype.kind == "V" else array


@backend.on_its_device
def is_bad(array: Any) -> bool:
    """Is there a NaN or an inf in it?"""
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    if array.dtype.kind not in "fc":
        return False
    return not bool(backend.namespace_of(array).isfinite(array).all())


def ranges(array: Any) -> str:
    """`min -1.5  max 3  2 nan, 1 inf`: min and max are of the finite numbers."""
    a = as_floats(array)
    if a.dtype.kind == "b":
        return f"{int(a.sum())} of {a.size} true"
    finite = a[np.isfinite(a)]
    parts = [f"min {finite.min():.6g}  max {finite.max():.6g}"] if finite.size else []
    nan, inf = int(np.isnan(a).sum()), int(np.isinf(a).sum())
    bad = [f"{count} {name}" for count, name in ((nan, "nan"), (inf, "inf")) if count]
    return "  ".join([*parts, *([", ".join(bad)] if bad else [])]) or "empty"


def shape_dtype(value: Any) -> str:
    return f"{tuple(value.shape)} {value.dtype}"


def numbers(value: Any, whole: int = 12) -> str:
    """A value in one line: small arrays whole, large ones as shape, dtype and range."""
    if not hasattr(value, "dtype"):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    if value.size > whole:
        return f"{shape_dtype(value)}  {ranges(value)}"
    a = as_floats(value)
    style = {"float_kind": lambda v: f"{v:.6g}"}
    text = np.array2string(a, separator=", ", formatter=style, max_line_width=10**6)  # type: ignore
    return " ".join(text.split())
