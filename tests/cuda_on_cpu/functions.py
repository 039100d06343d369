"""Functions that are not elementwise: CuPy's signatures word for word, NumPy's arithmetic.

A function is made of its signature, so a keyword that CuPy lacks is a TypeError here as well. What
a function does unlike NumPy's stands in a definition below: `@special`.
"""

from __future__ import annotations

import inspect

import numpy as np

from .capture import launched
from .device import current, not_captured, wait
from .ndarray import Capsule, here, made, ndarray, plain, poisoned, supported
from .ufuncs import where

SIGNATURES = {
    "all": "a, axis=None, out=None, keepdims=False",
    "allclose": "a, b, rtol=1e-05, atol=1e-08, equal_nan=False",
    "amax": "a, axis=None, out=None, keepdims=False",
    "amin": "a, axis=None, out=None, keepdims=False",
    "any": "a, axis=None, out=None, keepdims=False",
    "arange": "start, stop=None, step=1, dtype=None",
    "argmax": "a, axis=None, dtype=None, out=None, keepdims=False",
    "argmin": "a, axis=None, dtype=None, out=None, keepdims=False",
    "argpartition": "a, kth, axis=-1",
    "argsort": "a, axis=-1, kind=None",
    "argwhere": "a",
    "around": "a, decimals=0, out=None",
    "array": "obj, dtype=None, copy=True, order='K', subok=False, ndmin=0, *, blocking=False",
    "array_equal": "a1, a2, equal_nan=False",
    "asarray": "a, dtype=None, order=None, *, copy=None, blocking=False",
    "ascontiguousarray": "a, dtype=None",
    "asnumpy": "a, stream=None, order='C', out=None, *, blocking=True",
    "bincount": "x, weights=None, minlength=None",
    "broadcast_to": "array, shape",
    "clip": "a, a_min, a_max, out=None",
    "concatenate": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "copy": "a, order='K'",
    "copyto": "dst, src, casting='same_kind', where=None",
    "count_nonzero": "a, axis=None",
    "cumprod": "a, axis=None, dtype=None, out=None",
    "cumsum": "a, axis=None, dtype=None, out=None",
    "diag": "v, k=0",
    "diagonal": "a, offset=0, axis1=0, axis2=1",
    "diff": "a, n=1, axis=-1, prepend=None, append=None",
    "dot": "a, b, out=None",
    "empty": "shape, dtype=float, order='C'",
    "empty_like": "prototype, dtype=None, order='K', subok=None, shape=None",
    "expand_dims": "a, axis",
    "eye": "N, M=None, k=0, dtype=float, order='C'",
    "flatnonzero": "a",
    "flip": "a, axis=None",
    "full": "shape, fill_value, dtype=None, order='C'",
    "full_like": "a, fill_value, dtype=None, order='K', subok=None, shape=None",
    "identity": "n, dtype=float",
    "inner": "a, b",
    "isclose": "a, b, rtol=1e-05, atol=1e-08, equal_nan=False",
    "isin": "element, test_elements, assume_unique=False, invert=False",
    "kron": "a, b",
    "linspace": "start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0",
    "max": "a, axis=None, out=None, keepdims=False",
    "may_share_memory": "a, b, max_work=None",
    "mean": "a, axis=None, dtype=None, out=None, keepdims=False",
    "min": "a, axis=None, out=None, keepdims=False",
    "moveaxis": "a, source, destination",
    "nan_to_num": "x, copy=True, nan=0.0, posinf=None, neginf=None",
    "ndim": "a",
    "nonzero": "a",
    "ones": "shape, dtype=float, order='C'",
    "ones_like": "a, dtype=None, order='K', subok=None, shape=None",
    "outer": "a, b, out=None",
    "pad": "array, pad_width, mode='constant', **kwargs",
    "prod": "a, axis=None, dtype=None, out=None, keepdims=False",
    "put_along_axis": "arr, indices, values, axis",
    "ravel": "a, order='C'",
    "repeat": "a, repeats, axis=None",
    "reshape": "a, newshape, order='C', *, copy=None",
    "roll": "a, shift, axis=None",
    "rot90": "a, k=1, axes=(0, 1)",
    "round": "a, decimals=0, out=None",
    "searchsorted": "a, v, side='left', sorter=None",
    "shape": "a",
    "shares_memory": "a, b, max_work=None",
    "sort": "a, axis=-1, kind=None",
    "split": "ary, indices_or_sections, axis=0",
    "squeeze": "a, axis=None",
    "stack": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "std": "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "sum": "a, axis=None, dtype=None, out=None, keepdims=False",
    "swapaxes": "a, axis1, axis2",
    "take": "a, indices, axis=None, out=None",
    "take_along_axis": "a, indices, axis",
    "tensordot": "a, b, axes=2",
    "tile": "A, reps",
    "trace": "a, offset=0, axis1=0, axis2=1, dtype=None, out=None",
    "transpose": "a, axes=None",
    "tri": "N, M=None, k=0, dtype=float",
    "tril": "m, k=0",
    "triu": "m, k=0",
    "unique": "ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, "
    "equal_nan=True",
    "var": "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "vdot": "a, b",
    "zeros": "shape, dtype=float, order='C'",
    "zeros_like": "a, dtype=None, order='K', subok=None, shape=None",
}
LINALG = {
    "cholesky": "a",
    "det": "a",
    "eigh": "a, UPLO='L'",
    "inv": "a",
    "norm": "x, ord=None, axis=None, keepdims=False",
    "qr": "a, mode='reduced'",
    "slogdet": "a",
    "solve": "a, b",
    "svd": "a, full_matrices=True, compute_uv=True",
}
METHODS = {
    "all": "axis=None, out=None, keepdims=False",
    "any": "axis=None, out=None, keepdims=False",
    "argmax": "axis=None, out=None, dtype=None, keepdims=False",
    "argmin": "axis=None, out=None, dtype=None, keepdims=False",
    "argpartition": "kth, axis=-1",
    "argsort": "axis=-1, kind=None",
    "clip": "min=None, max=None, out=None",
    "cumprod": "axis=None, dtype=None, out=None",
    "cumsum": "axis=None, dtype=None, out=None",
    "diagonal": "offset=0, axis1=0, axis2=1",
    "dot": "b, out=None",
    "max": "axis=None, out=None, keepdims=False",
    "mean": "axis=None, dtype=None, out=None, keepdims=False",
    "min": "axis=None, out=None, keepdims=False",
    "nonzero": "",
    "prod": "axis=None, dtype=None, out=None, keepdims=None",
    "repeat": "repeats, axis=None",
    "round": "decimals=0, out=None",
    "squeeze": "axis=None",
    "std": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "sum": "axis=None, dtype=None, out=None, keepdims=False",
    "swapaxes": "axis1, axis2",
    "take": "indices, axis=None, out=None",
    "trace": "offset=0, axis1=0, axis2=1, dtype=None, out=None",
    "var": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
}

# questions that no kernel answers
ABOUT = {"may_share_memory", "ndim", "shape", "shares_memory"}
# no kernel runs where the result is a view, so none can run on the wrong device
VIEWS = {"broadcast_to", "diag", "diagonal", "expand_dims", "flip", "moveaxis", "ravel", "reshape",
         "rot90", "split", "squeeze", "swapaxes", "transpose"}  # fmt: skip
# the size of the result is in the data: the host has to read it
SIZED_BY_VALUES = {"argwhere", "bincount", "flatnonzero", "nonzero", "unique"}
SPECIAL: dict = {}


def special(function):
    SPECIAL[function.__name__.strip("_")] = function
    return function


def _made_of(name: str, signature: str, numpy_function, owner: str = ""):
    """A function with this signature that runs its special definition, or NumPy's function."""
    scope: dict = {"float": float}
    exec(f"def {name}({signature}): return _run(dict(locals()))", scope)
    function = scope[name]
    parameters = inspect.signature(function).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind != p.VAR_KEYWORD]
    optional = {p.name: p.default for p in parameters if p.default is not p.empty}
    definition = SPECIAL.get(f"{owner}{name}")

    def run(given: dict):
        if definition is not None:
            return definition(**given)
        sources: list[ndarray] = []
        given |= given.pop("kwargs", {})
        out = given.get("out")
        args = [plain(given.pop(n), sources) for n in required]
        options = {
            n: plain(v, sources) for n, v in given.items() if v is not optional.get(n, required)
        }
        if name not in VIEWS | ABOUT:
            here(*sources)
        if name in SIZED_BY_VALUES:
            wait(name)
        with np.errstate(all="ignore"):
            result = numpy_function(*args, **options)
        if out is not None:
            return out
        result = made(result, sources if name in VIEWS else ())
        for r in result if type(result) in (list, tuple) else [result]:
            if name in VIEWS and r.base is None and r.size:
                here(*sources)  # no view: a kernel has copied
        return result

    scope["_run"] = run
    function.__qualname__, function.__module__ = name, "cupy"
    return function if name in ABOUT else launched(function)


# ------------------------------------------------------------------------------ making arrays


def _from_host(obj, dtype, order="K", ndmin=0):
    sources: list[ndarray] = []
    if isinstance(obj, (list, tuple)):
        obj = plain_or_host(obj, sources)
        here(*sources)
    if not sources:
        not_captured("an upload")
    a = np.array(obj, dtype=dtype, order=order, ndmin=ndmin)
    supported(a.dtype)
    return made(a)


def plain_or_host(x, found):
    """A list may hold the device's arrays, which are joined, or the host's, which are uploaded."""
    if isinstance(x, (list, tuple)):
        return [plain_or_host(i, found) for i in x]
    return plain(x, found) if isinstance(x, ndarray) else x


@special
def array(obj, dtype, copy, order, subok, ndmin, blocking):
    if not isinstance(obj, ndarray):
        return _from_host(obj, dtype, order or "K", ndmin)
    if obj._memory.device_id != current.device:
        flags = obj._a.flags
        if (order or "K") == "K" and not (flags.c_contiguous or flags.f_contiguous):
            raise NotImplementedError(
                "CuPy cannot copy non-contiguous array between devices."
            )
        return made(np.array(obj._a, dtype=dtype, order=order or "K", ndmin=ndmin))
    out = obj.astype(obj.dtype if dtype is None else dtype, order or "K", copy=bool(copy))
    if order == "C" and not out._a.flags.c_contiguous:
        out = out.copy("C")
    return out if out.ndim >= ndmin else out.reshape((1,) * (ndmin - out.ndim) + out.shape)


@special
def asarray(a, dtype, order, copy, blocking):
    return array(a, dtype, bool(copy), order, False, 0, blocking)


@special
def ascontiguousarray(a, dtype):
    return array(a, dtype, False, "C", False, 0, False)


@special
def asnumpy(a, stream, order, out, blocking):
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a, order=order)


@special
def copy(a, order):
    return a.copy(order)


@special
def empty(shape, dtype, order):
    return ndarray(shape, dtype, order=order)


@special
def empty_like(prototype, dtype, order, subok, shape):
    return made(poisoned(np.empty_like(prototype._a, dtype, order, shape=shape)))


@special
def full(shape, fill_value, dtype, order):
    value = plain(fill_value) if isinstance(fill_value, ndarray) else np.asarray(fill_value)
    if isinstance(fill_value, ndarray):
        here(fill_value)
    return made(np.full(shape, value, value.dtype if dtype is None else dtype, order))


def _shaped_like(numpy_function, a, *value, dtype, order, subok, shape):
    return made(numpy_function(a._a, *value, dtype=dtype, order=order, shape=shape))


@special
def zeros_like(a, **how):
    return _shaped_like(np.zeros_like, a, **how)


@special
def ones_like(a, **how):
    return _shaped_like(np.ones_like, a, **how)


@special
def full_like(a, fill_value, **how):
    return _shaped_like(np.full_like, a, fill_value, **how)


@special
def broadcast_to(array, shape):
    if not isinstance(array, ndarray):
        raise TypeError(f"Argument 'array' has incorrect type (got {type(array).__name__})")
    return made(np.broadcast_to(array._a, shape), (array,))  # NumPy's: not to be written to


# ------------------------------------------------------------------------------ along an axis


def _sorting(numpy_function):
    def run(a, axis, kind):
        if kind not in (None, "stable"):
            raise ValueError("kind can only be None or 'stable'")
        if not a.ndim:
            raise np.exceptions.AxisError(-1 if axis is None else axis, 0)
        here(a)
        not_captured("Thrust's sort")
        return made(numpy_function(a._a, axis=axis, kind="stable"))

    return run


SPECIAL["sort"], SPECIAL["argsort"] = _sorting(np.sort), _sorting(np.argsort)


@special
def argpartition(a, kth, axis):  # the whole order
    return _sorting(np.argsort)(a, axis, None)


def _extreme_place(numpy_function):
    def run(a, axis, dtype, out, keepdims):
        here(a)
        result = made(numpy_function(a._a, axis=axis, keepdims=keepdims))
        return result if dtype is None else result.astype(dtype)

    return run


SPECIAL["argmax"], SPECIAL["argmin"] = _extreme_place(np.argmax), _extreme_place(np.argmin)


@special
def take_along_axis(a, indices, axis):
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if axis is None:
        a, axis = a.ravel(), 0
    if a.ndim != indices.ndim:
        raise ValueError("`indices` and `a` must have the same number of dimensions")
    here(a, indices)
    n = a.shape[axis]
    if not n and indices.size:
        raise IndexError("cannot do a non-empty take from an empty axes.")
    return made(np.take_along_axis(a._a, indices._a % max(n, 1), axis))


@special
def put_along_axis(arr, indices, values, axis):
    here(arr, indices, *([values] if isinstance(values, ndarray) else []))
    n = max(arr.shape[axis], 1)
    np.put_along_axis(arr._a, indices._a % n, plain(values), axis)


@special
def take(a, indices, axis, out):
    here(a, *([indices] if isinstance(indices, ndarray) else []))
    where = indices._a if isinstance(indices, ndarray) else np.asarray(indices, int)
    return made(np.take(a._a, where, axis, mode="wrap"))


@special
def repeat(a, repeats, axis):
    if isinstance(repeats, np.ndarray):
        raise TypeError(
            "'repeats' does not accept numpy.ndarray; convert with cupy.array() first"
        )
    here(a)
    if isinstance(repeats, ndarray):
        wait("repeat by an array")
        here(repeats)
        repeats = repeats._a
    return made(np.repeat(a._a, repeats, axis))


@special
def bincount(x, weights, minlength):
    wait("bincount")
    here(x, *([] if weights is None else [weights]))
    if x.dtype.kind == "f":
        raise TypeError("x must be int array")
    weights = None if weights is None else weights._a
    return made(np.bincount(x._a, weights, minlength or 0))


@special
def searchsorted(a, v, side, sorter):
    if not isinstance(v, ndarray):
        raise NotImplementedError("Only int or ndarray are supported for v")
    here(a, v)
    return made(np.searchsorted(a._a, v._a, side, None if sorter is None else sorter._a))


# ------------------------------------------------------------------------------ matrices


def _regular(*arrays):
    for a in arrays:
        if not isinstance(a, ndarray):
            raise TypeError(f"cupy.linalg only supports cupy.ndarray, got {type(a)}")
        if a.dtype == np.float16:
            raise TypeError("float16 is unsupported in linalg")
        if a.ndim < 2:
            raise np.linalg.LinAlgError(f"{a.ndim}-dimensional array given: at least 2 are needed")
    here(*arrays)


def _each(numpy_function, a, *others):
    """Matrix by matrix; of a singular one cuSOLVER makes infinities and NaNs, without a word."""
    try:
        return made(numpy_function(a._a, *(o._a for o in others)))
    except np.linalg.LinAlgError as error:
        if "Singular" not in str(error):
            raise
        like = others[0] if others else a
        return made(np.full_like(like._a, np.nan))


def linalg_inv(a):
    _regular(a)
    return _each(np.linalg.inv, a)


def linalg_solve(a, b):
    _regular(a)
    if b.ndim == 1:
        if a.shape[-1] != b.size:
            raise ValueError("a must have (..., M, M) shape and b must have (M,)")
    elif a.shape[:-1] != b.shape[:-1]:
        raise ValueError(
            "a must have (..., M, M) shape and b must have (..., M, K) for multidimensional b"
        )
    _regular(*([b] if b.ndim > 1 else []))
    return _each(np.linalg.solve, a, b)


SPECIAL["linalg_inv"], SPECIAL["linalg_solve"] = linalg_inv, linalg_solve


FUNCTIONS = {
    name: _made_of(name, signature, getattr(np, name, None))
    for name, signature in SIGNATURES.items()
}
FUNCTIONS["where"] = where
MATRICES = {
    name: _made_of(name, signature, getattr(np.linalg, name), "linalg_")
    for name, signature in LINALG.items()
}


def as_strided(x, shape=None, strides=None):
    return made(np.lib.stride_tricks.as_strided(x._a, shape, strides), (x,))


def from_dlpack(array, *, device=None, copy=None):
    capsule = array.__dlpack__()
    if not isinstance(capsule, Capsule):
        raise BufferError("the stand-in takes arrays of its own devices only")
    return capsule.array.view()


def get_array_module(*args):
    from . import standin

    return standin.cupy if any(isinstance(a, ndarray) for a in args) else np


# ------------------------------------------------------------------------------ methods


def _method(name: str, signature: str):
    """The function with the array in front; `clip` names its arguments otherwise."""
    function, renamed = FUNCTIONS[name], {"min": "a_min", "max": "a_max"}

    def run(given: dict):
        array = given.pop("self")
        if name == "prod":
            given["keepdims"] = bool(given["keepdims"])
        return function(array, **{renamed.get(k, k): v for k, v in given.items()})

    scope = {"_run": run}
    exec(f"def {name}(self, {signature}): return _run(dict(locals()))", scope)
    return scope[name]


for _name, _signature in METHODS.items():
    setattr(ndarray, _name, _method(_name, _signature))


@launched
def _sort_in_place(self, axis=-1, kind=None):
    self._a[...] = FUNCTIONS["sort"](self, axis, kind)._a


ndarray.sort = _sort_in_place  # type: ignore[attr-defined]
