"""Parameter: a Tensor that a Module trains."""

from __future__ import annotations

from typing import Any

from ..creation import empty, tensor
from ..tensor import Tensor


class Parameter(Tensor):
    """A leaf that requires grad. A Module finds its Parameters among its attributes.

    It shares memory with `data`, if that is a Tensor.
    """

    __slots__ = ()  # the layout of Tensor: any tensor's __class__ can become Parameter

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            t = empty(0)
        else:
            t = data.detach() if isinstance(data, Tensor) else tensor(data)
        t.__class__ = cls
        return t.requires_grad_(requires_grad)  # type: ignore[return-value]

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()
