"""Tensor: an array that remembers how it was made, with PyTorch's operators and methods.

Operators and methods are one-liners into ops, in methods.py. `t.array` is the NumPy or CuPy array
underneath; `t.data`, as in PyTorch, is the same memory as a Tensor outside of the graph.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import autograd, backend, dtypes, interop
from .autograd import Variable, wrap
from .backend import Device
from .errors import ArgumentError, DtypeError, GraphError, ShapeError
from .methods import OPERANDS, Methods
from .ops import elementwise as e
from .ops import inplace
from .ops import shape as sh


class Size(tuple):
    """A shape: a tuple that prints as PyTorch's."""

    __slots__ = ()

    def numel(self) -> int:
        return functools.reduce(operator.mul, self, 1)

    def __repr__(self) -> str:
        return f"tinytensor.Size({list(self)})"


class Tensor(Methods, Variable):
    __slots__ = ()

    __array_priority__ = 1000  # NumPy arrays on the left leave operators to us

    def __new__(cls, data: Any = None, **options: Any) -> Tensor:
        if data is None:
            return object.__new__(cls)
        from .creation import tensor  # Tensor(data) is tensor(data) in the default float dtype

        options.setdefault("dtype", dtypes.get_default_dtype())
        t = tensor(data, **options)
        t.__class__ = cls
        return t

    # -------------------------------------------------------------------------- what it is

    @property
    def data(self) -> Tensor:
        """The same memory as a Tensor outside of the graph."""
        t = self.detach()
        t._version = [0, None]  # writes through .data are the user's own business
        return t

    @data.setter
    def data(self, value: Tensor) -> None:
        self.array = value.array

    @property
    def shape(self) -> Size:
        return Size(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def device(self) -> Device:
        return backend.device_of(self.array)

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def is_leaf(self) -> bool:
        return self.grad_fn is None

    @property
    def is_cpu(self) -> bool:
        return self.device.type == "cpu"

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def grad_fn(self) -> Any:
        """The Node that made this tensor; None for a leaf."""
        if self._base is not None:
            inplace.refresh(self)
        return self._node

    @property
    def T(self) -> Tensor:
        """All dimensions reversed: the transpose of a matrix."""
        return sh.permute(self, tuple(reversed(range(self.array.ndim))))

    @property
    def mT(self) -> Tensor:
        """The last two dimensions swapped."""
        return sh.transpose(self, -1, -2)

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def itemsize(self) -> int:
        return self.array.itemsize

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[sh.canonical(dim, self.array.ndim)]

    def dim(self) -> int:
        return self.array.ndim

    def numel(self) -> int:
        return self.array.size

    nelement = numel

    def element_size(self) -> int:
        return self.array.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Steps in elements, not bytes."""
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        return strides if dim is None else strides[dim]

    def data_ptr(self) -> int:
        return inplace._pointer(self.array)

    def is_contiguous(self) -> bool:
        return bool(self.array.flags.c_contiguous)

    def is_floating_point(self) -> bool:
        return self.array.dtype.kind in "fV"

    def __repr__(self) -> str:
        from .printing import tensor_repr

        return tensor_repr(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.array.ndim == 0 else object.__format__(self, spec)

    # -------------------------------------------------------------------------- to Python

    def item(self) -> Any:
        """The one number it holds."""
        if self.array.size != 1:
            raise ShapeError(
                f"item: a tensor of {self.array.size} elements {tuple(self.array.shape)} is not "
                "one number: use tolist()"
            )
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    numpy = interop.to_numpy
    __array__, __array_ufunc__ = interop.to_array, interop.array_ufunc
    __array_function__ = interop.array_function
    __dlpack__, __dlpack_device__ = interop.to_dlpack, interop.dlpack_device
    __cuda_array_interface__ = property(interop.cuda_array_interface)

    def __len__(self) -> int:
        if not self.array.ndim:
            raise ArgumentError("len() of a 0-d tensor")
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.array.ndim:
            raise ArgumentError("iteration over a 0-d tensor")
        return iter(sh.unbind(self, 0))

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ShapeError(
                f"the truth of a tensor of {self.array.size} elements is ambiguous: use .any() or "
                ".all()"
            )
        return bool(self.array.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iub" or self.array.size != 1:
            raise ArgumentError(
                "only integer tensors of a single element can be an index, this is "
                f"{self.dtype} {tuple(self.array.shape)}"
            )
        return operator.index(self.item())

    def __contains__(self, value: Any) -> bool:
        if not isinstance(value, OPERANDS):
            raise DtypeError(
                f"in: a tensor holds numbers, not a {type(value).__name__}: ask for a number or "
                "a tensor"
            )
        return bool((self.detach() == value).any())

    def __reversed__(self) -> Tensor:
        return sh.flip(self, (0,)) if self.array.ndim else self

    __hash__ = object.__hash__

    # -------------------------------------------------------------------------- devices, dtypes

    def to(self, *args: Any, device: Any = None, dtype: Any = None, copy: bool = False) -> Tensor:
        """`t.to("cuda")`, `.to(tt.half)`, `.to(other)`: on the tape; itself if nothing changes."""
        for a in args:
            if isinstance(a, Variable):
                device, dtype = backend.device_of(a.array), a.array.dtype
            elif isinstance(a, Device) or (
                isinstance(a, str) and a.partition(":")[0] in ("cpu", "cuda", "auto")
            ):
                device = a
            elif a is not None and not isinstance(a, bool):
                dtype = a
        t = self
        if device is not None:
            device = backend.resolve(device)
            source = backend.device_of(t.array)
            if device != source:
                t = e.transfer(t, device, source)
        if dtype is not None and t.array.dtype != dtype:
            t = e.cast(t, dtype=_dtype(dtype))
        return t.clone() if copy and t is self else t

    def cpu(self) -> Tensor:
        return self.to("cpu")

    def cuda(self, device: Any = "cuda") -> Tensor:
        return self.to(backend.resolve(device))

    def type(self, dtype: Any) -> Tensor:
        return self.to(dtype=dtype)

    astype = type  # NumPy's name, for rules that run on Tensors

    def type_as(self, other: Tensor) -> Tensor:
        return self.to(other)

    def float(self) -> Tensor:
        return self.to(dtype=dtypes.float32)

    def short(self) -> Tensor:
        return self.to(dtype=dtypes.int16)

    def byte(self) -> Tensor:
        return self.to(dtype=dtypes.uint8)

    def char(self) -> Tensor:
        return self.to(dtype=dtypes.int8)

    def double(self) -> Tensor:
        return self.to(dtype=dtypes.float64)

    def half(self) -> Tensor:
        return self.to(dtype=dtypes.float16)

    def long(self) -> Tensor:
        return self.to(dtype=dtypes.int64)

    def int(self) -> Tensor:
        return self.to(dtype=dtypes.int32)

    def bool(self) -> Tensor:
        return self.to(dtype=dtypes.bool)

    # -------------------------------------------------------------------------- autograd

    def backward(
        self, gradient: Any = None, retain_graph: Any = None, create_graph: Any = False,
        inputs: Any = None,
    ) -> None:  # fmt: skip
        """Add d(self)/d(leaf) to the .grad of every leaf that self was computed from."""
        autograd.backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory, outside of the graph."""
        t = wrap(self.array)
        t._version = self._version
        return t

    def detach_(self) -> Tensor:
        self._node, self.requires_grad = None, False
        return self

    def requires_grad_(self, requires_grad: Any = True) -> Tensor:
        """Ask for gradients at this leaf, or no longer; returns self."""
        if requires_grad and self.array.dtype.kind not in "fV":
            raise DtypeError(f"only floating tensors can require gradients, this is {self.dtype}")
        if not requires_grad and self._node is not None:
            raise GraphError("requires_grad can be turned off at leaves only: use .detach()")
        self.requires_grad = bool(requires_grad)
        return self

    register_hook = autograd.register_hook
    retain_grad = autograd.retain_grad
    _refresh = inplace.refresh
    clone = e.clone

    # -------------------------------------------------------------------------- copies

    __copy__, __deepcopy__ = interop.shallow_copy, interop.deep_copy
    __reduce_ex__ = interop.reduce_ex


def _dtype(dtype: Any) -> np.dtype:
    try:
        return np.dtype(dtype)
    except TypeError:
        raise ArgumentError(f"{dtype!r} is neither a dtype, as tt.float32, nor a device") from None
