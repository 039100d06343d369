"""An array on a device: composition over a numpy.ndarray that nobody outside can reach.

What CuPy's array does, this does; what CuPy refuses, this refuses with CuPy's words. Two rules of
the house are stricter: memory from `empty` holds poison, and a kernel that touches another device's
memory fails (on GPUs with peer access CuPy would warn and go on, slowly).
"""

from __future__ import annotations

import numpy as np

from .capture import launched
from .device import Device, Memory, MemoryPointer, current, not_captured, wait
from .shim import poisoned

IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. "
    "Please use `.get()` to construct a NumPy array explicitly."
)


class Flags:
    """As in CuPy, without `writeable`."""

    def __init__(self, a: np.ndarray, owns: bool):
        self.c_contiguous, self.f_contiguous = a.flags.c_contiguous, a.flags.f_contiguous
        self.owndata = owns


class ndarray:
    __slots__ = ("_a", "_memory", "base", "__weakref__")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("the stand-in has no arrays over foreign memory")
        self._a, self.base = poisoned(np.empty(shape, dtype, order)), None
        self._memory = Memory(self._a)

    # -------------------------------------------------------------------------- what it is

    shape = property(lambda s: s._a.shape, lambda s, v: setattr(s._a, "shape", v))
    dtype, ndim, size, nbytes, itemsize, strides = (
        property(lambda s, name=name: getattr(s._a, name))
        for name in ("dtype", "ndim", "size", "nbytes", "itemsize", "strides")
    )
    flags = property(lambda s: Flags(s._a, s.base is None))
    device = property(lambda s: Device(s._memory.device_id))
    data = property(lambda s: MemoryPointer(s._memory, s._a.ctypes.data))
    T = property(lambda s: made(s._a.T, (s,)))
    mT = property(lambda s: made(s._a.mT, (s,)))

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape, "typestr": self.dtype.str, "descr": self.dtype.descr,
            "stream": 1, "version": 3, "data": (self.data.ptr, False),
            "strides": None if self._a.flags.c_contiguous else self.strides,
        }  # fmt: skip

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return len(self._a)

    # -------------------------------------------------------------------------- NumPy's protocols

    def __array__(self, dtype=None, copy=None):
        raise TypeError(IMPLICIT)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        function = getattr(_cupy(), ufunc.__name__, None)
        if method != "__call__" or function is None:
            return NotImplemented
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = out[0] if len(out) == 1 else out
        return function(*inputs, **kwargs)

    def __array_function__(self, func, types, args, kwargs):
        owner = _cupy()
        for part in func.__module__.split(".")[1:]:
            owner = getattr(owner, part, None)
        function = getattr(owner, func.__name__, func)
        if function is func or any(t not in (ndarray, np.ndarray) for t in types):
            return NotImplemented
        return function(*args, **kwargs)

    # -------------------------------------------------------------------------- to the host

    def get(self, stream=None, order="C", out=None, blocking=True):
        wait("get()")
        if out is not None:
            out[...] = self._a
            return out
        return np.array(self._a, order=order)

    def item(self):
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def tobytes(self, order="C"):
        return self.get().tobytes(order)

    def __bool__(self):
        return bool(self.get())

    def __int__(self):
        return int(self.get())

    def __float__(self):
        return float(self.get())

    def __complex__(self):
        return complex(self.get())

    def __repr__(self):
        return repr(self.get())

    def __str__(self):
        return str(self.get())

    def __format__(self, spec):
        return format(self.get(), spec)

    def __reduce__(self):
        return _rebuilt, (self.get(),)

    # -------------------------------------------------------------------------- from the host

    def set(self, arr, stream=None):
        not_captured("set()")
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        self._a[...] = arr

    @launched
    def fill(self, value):
        if isinstance(value, np.ndarray) and value.shape:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        here(self)
        self._a[...] = plain(value) if isinstance(value, ndarray) else value

    # -------------------------------------------------------------------------- copies, views

    @launched
    def copy(self, order="C"):
        """On the current device, wherever the array is."""
        return made(self._a.copy(order))

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        with self.device:
            return self.copy()

    @launched
    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        for name, option in (("casting", casting), ("subok", subok)):
            if option is not None:
                raise TypeError(f"{name} is not supported yet")
        supported(np.dtype(dtype))
        if not copy and self.dtype == dtype:
            return self
        here(self)
        with np.errstate(all="ignore"):
            return made(self._a.astype(dtype, order))

    def view(self, dtype=None, type=None):
        return made(self._a.view() if dtype is None else self._a.view(dtype), (self,))

    @launched
    def reshape(self, *shape, order="C", copy=None):
        return rearranged(self, self._a.reshape(*shape, order=order))

    def transpose(self, *axes):
        return made(self._a.transpose(*axes), (self,))

    @launched
    def ravel(self, order="C"):
        return rearranged(self, self._a.ravel(order))

    @launched
    def flatten(self, order="C"):
        here(self)
        return made(self._a.flatten(order))

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        return Capsule(self)

    def __dlpack_device__(self):
        return 2, self._memory.device_id  # kDLCUDA

    # -------------------------------------------------------------------------- indices

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    @launched
    def __getitem__(self, key):
        index, arrays = _index(self, key)
        if not arrays:
            return made(self._a[index], (self,))
        here(self, *arrays)
        return made(self._a[index])

    @launched
    def __setitem__(self, key, value):
        index, arrays = _index(self, key)
        if isinstance(value, ndarray):
            here(self, *arrays, value)
            value = _without_leading_ones(value._a)
        else:
            here(self, *arrays)
            if isinstance(value, (np.ndarray, list, tuple)) and not arrays and np.ndim(value):
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        with np.errstate(all="ignore"):
            self._a[index] = value


class Capsule:
    """What DLPack hands over: memory on a device."""

    def __init__(self, array: ndarray):
        self.array = array


def _cupy():
    from . import standin

    return standin.cupy


def _rebuilt(host):
    return made(host.copy())


# ------------------------------------------------------------------------------ in and out


def supported(dtype: np.dtype) -> None:
    if dtype.char not in "?bhilqBHILQefdFD" and dtype.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {dtype}")


def here(*arrays: ndarray) -> None:
    """A kernel runs on the current device: so must be its arguments."""
    for x in arrays:
        if x._memory.device_id != current.device:
            raise ValueError(
                f"The device where the array resides ({x._memory.device_id}) is different from the "
                f"current device ({current.device}). Peer access is unavailable between these "
                "devices."
            )


def made(result, sources=()):
    """A NumPy result on the device: a view of the source whose memory it shares, or new memory."""
    if isinstance(result, (tuple, list)):
        arrays = [made(r, sources) for r in result]
        return arrays if type(result) is list else tuple(arrays)  # no named tuples of NumPy's
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    new = object.__new__(ndarray)
    new._a = result = np.asarray(result)
    for x in sources:  # where a view may be asked for; of nothing it is one of the first
        if np.may_share_memory(result, x._a) or not result.size:
            new._memory, new.base = x._memory, x if x.base is None else x.base
            return new
    new._memory, new.base = Memory(result), None
    return new


def rearranged(x: ndarray, result: np.ndarray) -> ndarray:
    """A view where the strides allow it; else a kernel has copied."""
    new = made(result, (x,))
    if new.base is None and x.size:
        here(x)
    return new


def plain(x, found=None):
    """The NumPy side of an argument; an array of the host is refused."""
    if isinstance(x, ndarray):
        if found is not None:
            found.append(x)
        return x._a
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if type(x) in (list, tuple):
        return type(x)([plain(i, found) for i in x])
    return x


# ------------------------------------------------------------------------------ indices


def _index(x: ndarray, key):
    """A key as NumPy takes it, with CuPy's meaning, and the device arrays in it.

    An integer array wraps around: nobody looks whether it is in range. A boolean array has to be
    counted first, so the GPU is waited for. Arrays of the host are uploaded.
    """
    parts = [*key] if isinstance(key, tuple) else [key]
    arrays, uploaded = [], False
    for i, p in enumerate(parts):
        if isinstance(p, ndarray):
            arrays.append(p)
            parts[i] = p._a
        elif isinstance(p, (list, tuple, np.ndarray, bool, np.bool_)):
            parts[i] = np.asarray(p, None if np.size(p) else np.int32)
            uploaded = True
        elif not (p is None or p is Ellipsis or isinstance(p, (slice, int, np.integer))):
            raise IndexError(
                "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer "
                f"or boolean arrays are valid indices, not {type(p).__name__}"
            )
    if not any(p is Ellipsis for p in parts):
        parts.append(Ellipsis)  # an array even where one element is meant, as in CuPy
    if uploaded and not arrays:
        arrays.append(made(np.zeros(0)))  # of the current device
    if arrays:
        _wrap_around(x, parts)
    return tuple(parts), arrays


def _wrap_around(x: ndarray, parts: list) -> None:
    used = lambda p: 0 if p is None or p is Ellipsis else (  # noqa: E731
        p.ndim if isinstance(p, np.ndarray) and p.dtype.kind == "b" else 1)  # fmt: skip
    axis, hidden = 0, x.ndim - sum(map(used, parts))
    if hidden < 0:
        raise IndexError(
            f"too many indices for array: array is {x.ndim}-dimensional, but {x.ndim - hidden} "
            "were indexed"
        )
    for i, p in enumerate(parts):
        if isinstance(p, np.ndarray):
            if p.dtype.kind == "b":
                wait("a boolean mask as an index")
            elif p.dtype.kind not in "iu":
                raise IndexError(
                    "arrays used as indices must be of integer or boolean type. "
                    f"(actual: {p.dtype.type})"
                )
            elif x.shape[axis]:
                parts[i] = p % np.asarray(x.shape[axis]).astype(p.dtype) if (
                    x.shape[axis] <= np.iinfo(p.dtype).max) else p % x.shape[axis]  # fmt: skip
            elif p.size:
                raise IndexError("cannot do a non-empty take from an empty axes.")
        axis += hidden if p is Ellipsis else used(p)


def _without_leading_ones(a: np.ndarray) -> np.ndarray:
    while a.ndim and a.shape[0] == 1:
        a = a[0]
    return a
