"""Elementwise functions with CuPy's own loops: which dtypes there are, and in which order.

CuPy takes the first loop that all arguments can be cast to safely; Python numbers are weak and
follow the arrays. There is no `where=`, and `.at`, `.reduce` and `.accumulate` exist for few.
"""

from __future__ import annotations

import numpy as np

from .capture import launched
from .device import not_captured, wait
from .ndarray import _index, here, made, ndarray

try:
    from ml_dtypes import bfloat16
except ImportError:  # without it CuPy has no bfloat16 either
    bfloat16 = None

_DTYPES = {c: np.dtype(c) for c in "?bBhHiIlLefd"}
if bfloat16 is not None:
    _DTYPES["E"] = np.dtype(bfloat16)
_WHOLE, _FLOATS = "bBhHiIlL", "eEfd"


def _loops(text: str, nin: int, out: str = "") -> list[tuple[tuple, np.dtype]]:
    return [((_DTYPES[c],) * nin, _DTYPES[out or c]) for c in text if c in _DTYPES]


def _mixed(text: str, out: str) -> list[tuple[tuple, np.dtype]]:
    """Loops whose arguments differ: "ll lL"."""
    pairs = [pair for pair in text.split() if pair[0] in _DTYPES]
    return [(tuple(_DTYPES[c] for c in pair), _DTYPES[out]) for pair in pairs]


_COMPARED = _mixed("?? ll LL lL Ll ee EE ff dd", "?")
_LOOPS: dict[str, list] = {
    "absolute ceil floor negative positive trunc": _loops("?" + _WHOLE + _FLOATS, 1),
    "arccos arccosh arcsin arcsinh arctan arctanh cbrt cos cosh deg2rad exp exp2 expm1 fabs log "
    "log10 log1p log2 rad2deg rint sin sinc sinh sqrt tan tanh": _loops(_FLOATS, 1),
    "add fmax fmin maximum minimum multiply subtract": _loops("?" + _WHOLE + _FLOATS, 2),
    "arctan2 copysign heaviside hypot logaddexp logaddexp2 nextafter": _loops(_FLOATS, 2),
    "bitwise_and bitwise_or bitwise_xor gcd lcm": _loops("?" + _WHOLE, 2),
    "invert": _loops("?" + _WHOLE, 1),
    "left_shift right_shift": _loops(_WHOLE, 2),
    "conjugate reciprocal sign square": _loops(_WHOLE + _FLOATS, 1),
    "true_divide": _mixed("ll lL Ll LL", "d") + _loops(_FLOATS, 2),
    "equal not_equal greater greater_equal less less_equal logical_and logical_or": _COMPARED,
    "float_power": _loops("d", 2),
    "floor_divide fmod remainder": _loops(_WHOLE + _FLOATS, 2),
    "isfinite isinf isnan signbit": _loops(_FLOATS, 1, "?"),
    "logical_not": _loops("?" + _WHOLE + "efd", 1, "?"),
    "logical_xor": _loops("?" + _WHOLE + "efd", 2, "?"),
    "power": _loops("?", 2, "b") + _loops(_WHOLE + _FLOATS, 2),
}
LOOPS = {name: loops for names, loops in _LOOPS.items() for name in names.split()}
ALIASES = {
    "abs": "absolute", "divide": "true_divide", "mod": "remainder", "pow": "power",
    "bitwise_not": "invert", "bitwise_invert": "invert", "bitwise_left_shift": "left_shift",
    "bitwise_right_shift": "right_shift", "acos": "arccos", "acosh": "arccosh", "asin": "arcsin",
    "asinh": "arcsinh", "atan": "arctan", "atanh": "arctanh", "atan2": "arctan2",
    "conj": "conjugate", "degrees": "rad2deg", "radians": "deg2rad",
}  # fmt: skip
WHERE = [((_DTYPES["?"], t, t), t) for t in (_DTYPES[c] for c in "?" + _WHOLE + "efd")]

# atomics: what .at can do, and with which dtypes
SCATTERED = {
    "add": ("int32, int64, float16, float32, float64, uint32, uint64", np.add),
    "maximum": ("int32, int64, float32, float64, uint32, uint64", np.maximum),
    "minimum": ("int32, int64, float32, float64, uint32, uint64", np.minimum),
}


def _kind(t: np.dtype | type) -> int:
    scalar = t if isinstance(t, type) else t.type
    if issubclass(scalar, (bool, np.bool_)):
        return 0
    if issubclass(scalar, (int, np.integer)):
        return 1
    return 2 if issubclass(scalar, (float, complex, np.inexact)) else 3


def resolve(name: str, loops: list, types: list, weak: list) -> tuple[tuple, np.dtype]:
    """The first loop that fits; types of the arguments, weak[i] the type of a Python number."""
    arrays = [_kind(t) for t, w in zip(types, weak) if not w]
    scalars = [_kind(w) for w in weak if w]
    if not arrays or not scalars or max(arrays) < max(scalars):
        weak = [None] * len(weak)
    for wanted, out in loops:
        for t, w, needed in zip(types, weak, wanted):
            if not np.can_cast(t, needed) and not (w and np.result_type(w(0), needed) == needed):
                break
        else:
            return wanted, out
    raise TypeError(f"Wrong type ({tuple(types)}) of arguments for cupy_{name}")


@launched
def elementwise(name: str, loops: list, compute, args: tuple, out=None, dtype=None, casting=None):
    """Run one loop. Arguments are arrays of the current device, or numbers."""
    types, weak = [], []
    for x in args:
        if isinstance(x, ndarray):
            here(x)
            types.append(x.dtype)
            weak.append(None)
        elif type(x) in (bool, int, float):
            types.append(np.dtype(type(x)))
            weak.append(type(x))
        elif isinstance(x, np.generic):
            types.append(x.dtype)
            weak.append(None)
        else:
            raise TypeError(f"Unsupported type {type(x)}")
    if dtype is None:
        wanted, given = resolve(name, loops, types, weak)
    else:
        found = [loop for loop in loops if loop[1] == np.dtype(dtype)]
        if not found:
            raise TypeError(f"Wrong type ({np.dtype(dtype)}) of arguments for cupy_{name}")
        wanted, given = found[0]
    with np.errstate(all="ignore"):
        inputs = [
            x._a.astype(t, copy=False) if isinstance(x, ndarray) else np.asarray(x, t)
            for x, t in zip(args, wanted)
        ]
        result = np.asarray(compute(*inputs)).astype(given, copy=False)
    if out is None:
        return made(result)
    if not isinstance(out, ndarray):
        raise TypeError(f"Unsupported type {type(out)}")
    here(out)
    if not np.can_cast(given, out.dtype, casting or "same_kind"):
        raise TypeError(
            f"output (typecode '{given.char}') could not be coerced to provided output parameter "
            f"(typecode '{out.dtype.char}') according to the casting rule \"same_kind\""
        )
    if np.broadcast_shapes(out.shape, result.shape) != out.shape:
        raise ValueError(f"Output shape is mismatched: {out.shape}, {result.shape}")
    out._a[...] = result
    return out


class ufunc:
    def __init__(self, name: str):
        self.name = f"cupy_{name}"
        self.__name__, self._loops, self._compute = name, LOOPS[name], getattr(np, name)
        self.nin, self.nout = len(self._loops[0][0]), 1

    def __repr__(self) -> str:
        return f"<ufunc '{self.name}'>"

    def __call__(self, *args, out=None, dtype=None, casting=None, **wrong):
        if wrong:
            raise TypeError(f"Wrong arguments {wrong}")
        if not self.nin <= len(args) <= self.nin + 1:
            raise TypeError(f"Wrong number of arguments for {self.name!r}")
        if len(args) > self.nin:
            args, out = args[:-1], args[-1]
        if isinstance(out, tuple):
            (out,) = out
        return elementwise(self.__name__, self._loops, self._compute, args, out, dtype, casting)

    @launched
    def at(self, a, indices, b=None):
        """Into `a` by atomics; with a boolean mask by a kernel of its own, for any dtype."""
        if self.__name__ not in SCATTERED:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        dtypes, join = SCATTERED[self.__name__]
        index, arrays = _index(a, indices)
        values = b._a.astype(a.dtype, copy=False) if isinstance(b, ndarray) else np.asarray(
            b, a.dtype)  # fmt: skip
        here(a, *arrays, *([b] if isinstance(b, ndarray) else []))
        masked = len(arrays) == 1 and arrays[0].dtype.kind == "b"
        if arrays and not masked and a.dtype.name not in dtypes.split(", "):
            raise TypeError(f"cupy.{self.__name__}.at only supports {dtypes} as data type")
        with np.errstate(all="ignore"):
            join.at(a._a, index, values)

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        how = {"add": "sum", "multiply": "prod"}.get(self.__name__)
        if how is None:
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        return getattr(array, how)(axis, dtype, out, keepdims)

    def accumulate(self, array, axis=0, dtype=None, out=None):
        how = {"add": "cumsum", "multiply": "cumprod"}.get(self.__name__)
        if how is None:
            raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")
        return getattr(array, how)(axis, dtype, out)


UFUNCS = {name: ufunc(name) for name in LOOPS}
UFUNCS |= {alias: UFUNCS[name] for alias, name in ALIASES.items()}


def where(condition, x=None, y=None):
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        wait("where(condition)")
        return made(np.nonzero(condition._a))
    mask = condition.astype("?", copy=False)  # an AttributeError for what is no device array
    return elementwise("where", WHERE, np.where, (mask, x, y))


def matmul(x1, x2, /, out=None, **options):
    """Through cuBLAS: nothing below checks the devices, so this does."""
    if options:
        raise NotImplementedError(f"matmul({', '.join(options)}) in the stand-in")
    not_captured("CuPy's cuBLAS")
    for x in (x1, x2):
        if not isinstance(x, ndarray):
            raise TypeError(f"Unsupported type {type(x)}")
    here(x1, x2, *([] if out is None else [out]))
    if x1.dtype.name == "bfloat16" and max(x1.ndim, x2.ndim) > 2:
        raise TypeError("matmul of batches in bfloat16: cuBLAS is not asked for that")
    with np.errstate(all="ignore"):
        result = np.matmul(x1._a, x2._a)
        if x1.dtype == x2.dtype:  # NumPy's product of bfloat16 is float32
            result = result.astype(x1.dtype, copy=False)
    if out is None:
        return made(result)
    out._a[...] = result
    return out


# ------------------------------------------------------------------------------ the operators


def _operator(function, swapped=False, in_place=False):
    def method(self, other):
        if getattr(other, "__array_priority__", 0) > 100 or isinstance(other, str):
            return NotImplemented
        if in_place:
            return function(self, other, out=self)
        return function(other, self) if swapped else function(self, other)

    return method


for _name, _function in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide",
    "floordiv": "floor_divide", "mod": "remainder", "pow": "power", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift",
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _operator(UFUNCS[_function]))
    setattr(ndarray, f"__r{_name}__", _operator(UFUNCS[_function], swapped=True))
    setattr(ndarray, f"__i{_name}__", _operator(UFUNCS[_function], in_place=True))
for _name, _function in {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
    "ne": "not_equal", "matmul": None,
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _operator(UFUNCS[_function] if _function else matmul))
ndarray.__rmatmul__ = _operator(matmul, swapped=True)
for _name, _function in {
    "neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"
}.items():
    setattr(ndarray, f"__{_name}__", lambda self, f=UFUNCS[_function]: f(self))
