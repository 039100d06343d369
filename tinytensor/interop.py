"""Tensors among strangers: the methods for NumPy's functions, DLPack, copy and pickle.

One principle: a NumPy function on a Tensor runs our op and stays in the graph; without such an op
it runs on the plain arrays where no gradient is asked for, and raises where one is. A result that
silently left the graph does not exist, except for pickle, which is made to leave.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend
from .autograd import Variable, wrap
from .errors import ArgumentError, DeviceError, ExportError, GraphError

# ------------------------------------------------------------------------------ to NumPy


def to_numpy(t: Any, *, force: bool = False) -> np.ndarray:
    """The NumPy array underneath, sharing memory. force: detached, and copied from the GPU."""
    if not force:
        _check_outside("numpy()", t)
        if t.is_cuda:
            raise DeviceError(f"numpy: the tensor is on {t.device}: use .cpu().numpy()")
    return backend.to_numpy(t.array)


def to_array(t: Any, dtype: Any = None, copy: Any = None) -> np.ndarray:
    """np.asarray(t): the array itself if it may be."""
    array = to_numpy(t)
    return array if dtype is None and not copy else np.array(array, dtype=dtype, copy=copy)


def _check_outside(what: str, t: Any) -> None:
    if t.requires_grad:
        raise ExportError(
            f"{what}: the tensor requires grad, and its graph would be lost: use t.detach()"
        )


# NumPy's names of ufuncs that we call otherwise; all others of the same name do the same
UFUNC_NAMES = {
    "absolute": "abs", "fabs": "abs", "subtract": "sub", "multiply": "mul", "divide": "div",
    "power": "pow", "float_power": "", "negative": "neg", "equal": "eq", "not_equal": "ne",
    "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "rint": "round",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "invert": "bitwise_not", "degrees": "rad2deg",
    "radians": "deg2rad", "left_shift": "bitwise_left_shift",
    "right_shift": "bitwise_right_shift",
}  # fmt: skip
_REDUCTIONS = {
    "add": "sum", "multiply": "prod", "maximum": "amax", "minimum": "amin", "logical_and": "all",
    "logical_or": "any",
}  # fmt: skip
_ACCUMULATIONS = {"add": "cumsum", "multiply": "cumprod"}


def array_ufunc(t: Any, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """np.exp(t), array * t, np.add.reduce(t): our op, or as the head of this file says."""
    import tinytensor as tt

    name = ufunc.__name__
    ours: Any = None
    if method == "__call__" and not kwargs:
        ours = getattr(tt, UFUNC_NAMES.get(name, name), None)
    elif method == "reduce" and len(inputs) == 1 and kwargs.keys() <= {"axis", "keepdims"}:
        ours = getattr(tt, _REDUCTIONS.get(name, ""), None)
    elif method == "accumulate" and len(inputs) == 1 and kwargs.keys() <= {"axis"}:
        ours = getattr(tt, _ACCUMULATIONS.get(name, ""), None)
    if callable(ours):
        along = () if method == "__call__" else (kwargs.pop("axis", 0),)
        return ours(*[_operand(i) for i in inputs], *along, **kwargs)
    call = name if method == "__call__" else f"{name}.{method}"
    return _outside(call, getattr(ufunc, method), inputs, kwargs)


def _operand(x: Any) -> Any:
    return wrap(x) if isinstance(x, np.ndarray) and x.ndim else x


def array_function(t: Any, function: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
    """np.concatenate([t, ...]), np.mean(t, axis=0): our op, or as the head of this file says."""
    name = function.__name__
    ours = numpy_functions().get(name) if function is getattr(np, name, None) else None
    if ours is not None:
        try:
            bound = inspect.signature(ours).bind(*args, **kwargs)
        except TypeError:  # an option of NumPy's that our op does not have
            pass
        else:
            return ours(*bound.args, **bound.kwargs)
    return _outside(name, function, args, kwargs)


def _outside(name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
    """NumPy's function on the arrays underneath, its results as Tensors; raises if in a graph."""

    def bare(x: Any) -> Any:
        if isinstance(x, Variable):
            if x.requires_grad:
                raise ExportError(
                    f"numpy.{name} has no op here for these arguments, and would lose the graph of "
                    f"a tensor that requires grad: use tinytensor's own, or t.detach()"
                )
            return x.array
        if isinstance(x, (list, tuple)):
            return type(x)(bare(v) for v in x) if not hasattr(x, "_make") else x
        return {k: bare(v) for k, v in x.items()} if isinstance(x, dict) else x

    given = kwargs.get("out")
    result = function(*bare(args), **bare(kwargs))
    if given is not None:  # written into: what was passed is what comes back
        return given[0] if isinstance(given, tuple) and len(given) == 1 else given
    return _as_tensors(result)


def _as_tensors(result: Any) -> Any:
    if isinstance(result, (np.ndarray, np.generic)) and result.dtype.kind in "biuf":
        return wrap(np.asarray(result))
    if isinstance(result, (list, tuple)) and not hasattr(result, "_make"):
        return type(result)(_as_tensors(r) for r in result)
    return result


_table: dict[str, Callable] = {}


def numpy_functions() -> dict[str, Callable]:
    """NumPy's functions with NumPy's signatures, in our ops. Made when first asked for."""
    if _table:
        return _table
    import tinytensor as tt

    def many(arrays: Any) -> list:
        return [tt.as_tensor(a) for a in arrays]

    def reduction(f: Callable) -> Callable:
        return lambda a, axis=None, *, keepdims=False: f(a, axis, keepdims)

    def spread(f: Callable) -> Callable:
        return lambda a, axis=None, *, ddof=0, keepdims=False: f(
            a, axis, keepdim=keepdims, correction=ddof
        )

    def same(f: Callable) -> Callable:
        return lambda a: f(a)

    def concatenate(arrays: Any, axis: Any = 0) -> Any:
        if axis is None:
            return tt.cat([a.reshape(-1) for a in many(arrays)])
        return tt.cat(many(arrays), axis)

    def where(condition: Any, x: Any, y: Any) -> Any:
        return tt.where(_operand(condition), _operand(x), _operand(y))

    def clip(a: Any, a_min: Any = None, a_max: Any = None) -> Any:
        return tt.clamp(a, _operand(a_min), _operand(a_max))

    def reshape(a: Any, shape: Any) -> Any:
        return tt.reshape(a, shape if isinstance(shape, (tuple, list)) else (shape,))

    def transpose(a: Any, axes: Any = None) -> Any:
        return tt.permute(a, tuple(reversed(range(a.ndim))) if axes is None else tuple(axes))

    def squeeze(a: Any, axis: Any = None) -> Any:
        return tt.squeeze(a, axis)

    def expand_dims(a: Any, axis: Any) -> Any:
        for d in sorted(axis) if isinstance(axis, (tuple, list)) else (axis,):
            a = tt.unsqueeze(a, d)
        return a

    def dot(a: Any, b: Any) -> Any:
        a, b = tt.as_tensor(a), tt.as_tensor(b)
        if a.ndim == 0 or b.ndim == 0:
            return a * b
        return tt.matmul(a, b) if b.ndim <= 2 else tt.tensordot(a, b, ([-1], [-2]))

    def flip(a: Any, axis: Any = None) -> Any:
        axes = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        return tt.flip(a, tuple(axes))

    def cumulative(f: Callable) -> Callable:
        return lambda a, axis=None: f(a.reshape(-1), 0) if axis is None else f(a, axis)

    def sort(a: Any, axis: Any = -1) -> Any:
        return tt.sort(a.reshape(-1) if axis is None else a, -1 if axis is None else axis).values

    def argsort(a: Any, axis: Any = -1) -> Any:
        return tt.argsort(a.reshape(-1) if axis is None else a, -1 if axis is None else axis)

    def take_along_axis(arr: Any, indices: Any, axis: Any) -> Any:
        return tt.gather(arr, axis, tt.as_tensor(indices))

    def like(f: Callable) -> Callable:
        return lambda a, dtype=None: f(a, dtype=dtype)

    _table.update(
        {
            "concatenate": concatenate, "concat": concatenate,
            "stack": lambda arrays, axis=0: tt.stack(many(arrays), axis),
            "sum": lambda a, axis=None, dtype=None, *, keepdims=False: tt.sum(
                a, axis, keepdims, dtype=dtype
            ),
            "mean": reduction(tt.mean), "amax": reduction(tt.amax), "max": reduction(tt.amax),
            "amin": reduction(tt.amin), "min": reduction(tt.amin), "all": reduction(tt.all),
            "any": reduction(tt.any), "argmax": reduction(tt.argmax),
            "argmin": reduction(tt.argmin), "std": spread(tt.std), "var": spread(tt.var),
            "where": where, "clip": clip, "reshape": reshape, "transpose": transpose,
            "permute_dims": transpose, "ravel": lambda a: tt.reshape(a, (-1,)),
            "swapaxes": lambda a, axis1, axis2: tt.transpose(a, axis1, axis2),
            "moveaxis": lambda a, source, destination: tt.movedim(a, source, destination),
            "squeeze": squeeze, "expand_dims": expand_dims, "flip": flip, "dot": dot,
            "broadcast_to": lambda array, shape: array.expand(shape),
            "tril": lambda m, k=0: tt.tril(m, k), "triu": lambda m, k=0: tt.triu(m, k),
            "diagonal": lambda a, offset=0, axis1=0, axis2=1: tt.diagonal(a, offset, axis1, axis2),
            "cumsum": cumulative(tt.cumsum), "sort": sort, "argsort": argsort,
            "take_along_axis": take_along_axis, "zeros_like": like(tt.zeros_like),
            "ones_like": like(tt.ones_like), "empty_like": like(tt.empty_like),
            "einsum": lambda subscripts, *operands: tt.einsum(subscripts, *many(operands)),
            "copy": same(tt.clone), "shape": same(lambda a: tuple(a.shape)),
            "ndim": same(lambda a: a.ndim), "size": same(lambda a: a.numel()),
        }
    )  # fmt: skip
    return _table


# ------------------------------------------------------------------------------ DLPack


def to_dlpack(t: Any, **options: Any) -> Any:
    """The capsule that np.from_dlpack, torch.from_dlpack and the like ask for: shared memory."""
    _check_outside("DLPack", t)
    return t.array.__dlpack__(**options)


def dlpack_device(t: Any) -> tuple:
    return t.array.__dlpack_device__()


def from_dlpack(source: Any) -> Any:
    """A Tensor over the memory of an array or tensor of another library, on its device."""
    if not (hasattr(source, "__dlpack__") and hasattr(source, "__dlpack_device__")):
        raise ArgumentError(
            f"from_dlpack: {type(source).__name__} does not speak DLPack: use tt.tensor(...)"
        )
    kind, _ = source.__dlpack_device__()
    on_cpu = int(kind) == 1  # kDLCPU; 2 is kDLCUDA
    return wrap(np.from_dlpack(source) if on_cpu else backend.cupy().from_dlpack(source))


def cuda_array_interface(t: Any) -> dict:
    """Lets CuPy and Numba read a tensor on the GPU; absent on the CPU."""
    if not t.is_cuda:
        raise AttributeError("__cuda_array_interface__: the tensor is on the CPU")
    _check_outside("__cuda_array_interface__", t)
    return t.array.__cuda_array_interface__


# ------------------------------------------------------------------------------ copy, pickle


def shallow_copy(t: Any) -> Any:
    """copy.copy(t): another Tensor over the same memory, at the same place in the graph."""
    new = wrap(t.array, t._node, t.requires_grad)
    new.__class__ = t.__class__
    new._version, new._base, new.grad = t._version, t._base, t.grad
    return new


def deep_copy(t: Any, memo: dict) -> Any:
    """copy.deepcopy(t): a leaf with memory of its own; leaves only, as in PyTorch."""
    if t._node is not None:
        raise GraphError("only leaves can be deep-copied: detach() or clone() this tensor")
    new = wrap(backend.copy(t.array, "K"), None, t.requires_grad)
    new.__class__ = t.__class__
    memo[id(t)] = new
    new.grad = None if t.grad is None else deep_copy(t.grad, memo)
    return new


def reduce_ex(t: Any, protocol: Any) -> Any:
    """pickle: the numbers, the dtype, requires_grad; a leaf when loaded, on the CPU's memory."""
    return rebuild, (type(t), backend.to_numpy(t.array), t.requires_grad, str(t.device))


def rebuild(cls: Any, array: Any, requires_grad: bool, device: str = "cpu") -> Any:
    array = backend.to_device(array, backend.resolve(device))
    t = wrap(array, None, requires_grad)
    t.__class__ = cls
    return t
