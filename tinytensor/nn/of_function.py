"""Modules that are a function and its options: most activations, all pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..tensor import Tensor
from .module import Module

REQUIRED = object()


class FunctionModule(Module):
    """out = function(*inputs, **options). The options are attributes, in the order of `options`."""

    function: Callable
    options: dict[str, Any] = {}

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()
        name, names = type(self).__name__, list(self.options)
        if len(args) > len(names) or set(kwargs) - set(names[len(args) :]):
            raise ArgumentError(f"{name}: the options are {', '.join(names) or 'none'}")
        values = {**self.options, **dict(zip(names, args)), **kwargs}
        missing = [n for n, v in values.items() if v is REQUIRED]
        if missing:
            raise ArgumentError(f"{name}: {missing[0]} is required")
        for n, v in values.items():
            setattr(self, n, v)

    def forward(self, *inputs: Tensor, **more: Any) -> Tensor:
        return type(self).function(*inputs, **{n: getattr(self, n) for n in self.options}, **more)

    def extra_repr(self) -> str:
        changed = [n for n, v in self.options.items() if getattr(self, n) != v or v is REQUIRED]
        return ", ".join(f"{n}={getattr(self, n)}" for n in changed)


def module(name: str, function: Callable, **options: Any) -> Any:
    """The class `name` of a function and its options; documented as the function is."""
    members = {"function": staticmethod(function), "options": options}
    return type(name, (FunctionModule,), {**members, "__doc__": function.__doc__})
