"""Modules that hold others: in order, in a list, by name. Their attributes are "0", "1", ..."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from ..errors import ArgumentError, DimError
from .module import Module
from .parameter import Parameter


class _Sequence(Module):
    """A list of modules or parameters, kept as the attributes "0", "1", ... ."""

    _kind: type = Module

    def __init__(self, items: Iterable = ()):
        super().__init__()
        self._fill(items)

    def _items(self) -> list:
        return [v for v in vars(self).values() if isinstance(v, self._kind)]

    def _fill(self, items: Iterable) -> None:
        """Hold these instead."""
        items = list(items)
        for i, item in enumerate(items):
            if not isinstance(item, self._kind):
                raise ArgumentError(
                    f"{type(self).__name__}: item {i} is a {type(item).__name__}, "
                    f"not a {self._kind.__name__}"
                )
        for name in [n for n, v in vars(self).items() if isinstance(v, self._kind)]:
            delattr(self, name)
        for i, item in enumerate(items):
            setattr(self, str(i), item)

    def _name(self, index: int) -> str:
        names = [n for n, v in vars(self).items() if isinstance(v, self._kind)]
        if not -len(names) <= index < len(names):
            raise DimError(f"index {index} is out of range: {type(self).__name__} of {len(names)}")
        return names[index]

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator:
        return iter(self._items())

    def __contains__(self, item: Any) -> bool:
        return any(item is i for i in self._items())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(self._items()[index])
        return getattr(self, self._name(index))

    def __setitem__(self, index: int, item: Any) -> None:
        if not isinstance(item, self._kind):
            raise ArgumentError(f"{type(self).__name__}: not a {self._kind.__name__}: {item!r}")
        setattr(self, self._name(index), item)

    def __delitem__(self, index: Any) -> None:
        items = self._items()
        del items[index]
        self._fill(items)

    def __add__(self, other: Iterable) -> Any:
        return type(self)([*self, *other])

    def __iadd__(self, other: Iterable) -> Any:
        return self.extend(other)

    def append(self, item: Any) -> Any:
        return self.extend([item])

    def extend(self, items: Iterable) -> Any:
        self._fill([*self, *items])
        return self

    def insert(self, index: int, item: Any) -> Any:
        items = self._items()
        items.insert(index, item)
        self._fill(items)
        return self


class ModuleList(_Sequence):
    """A list of modules that their owner finds: `for block in self.h: x = block(x)`."""

    def _child_lines(self) -> list[str]:
        """Equal neighbours on one line: `(0-11): 12 x Block(...)`."""
        lines, i = [], 0
        for text, group in groupby(map(repr, self)):
            n = len(list(group))
            lines.append(f"({i}): {text}" if n == 1 else f"({i}-{i + n - 1}): {n} x {text}")
            i += n
        return lines


class Sequential(_Sequence):
    """out = last(... second(first(input))); modules in order, or an OrderedDict that names them."""

    def __init__(self, *modules: Any):
        named = len(modules) == 1 and isinstance(modules[0], Mapping)
        super().__init__(() if named else modules)
        for name, module in modules[0].items() if named else ():
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(dict(self._own_modules()[index]))  # with their names
        return super().__getitem__(index)

    def __add__(self, other: Iterable) -> Sequential:
        return type(self)(*self, *other)


class ParameterList(_Sequence):
    """A list of parameters that their owner finds; plain tensors become Parameters."""

    _kind = Parameter

    def _fill(self, items: Iterable) -> None:
        super()._fill(v if isinstance(v, Parameter) else Parameter(v) for v in items)

    def _child_lines(self) -> list[str]:
        return [f"({i}): Parameter {tuple(p.shape)} of {p.dtype}" for i, p in enumerate(self)]


class ModuleDict(Module):
    """Modules by name, which their owner finds."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()):
        super().__init__()
        self.update(modules)

    def __getitem__(self, key: str) -> Module:
        return dict(self._own_modules())[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __len__(self) -> int:
        return len(self._own_modules())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, key: str) -> bool:
        return key in self.keys()

    def keys(self) -> Any:
        return dict(self._own_modules()).keys()

    def values(self) -> Any:
        return dict(self._own_modules()).values()

    def items(self) -> Any:
        return dict(self._own_modules()).items()

    def pop(self, key: str) -> Module:
        module = self[key]
        delattr(self, key)
        return module

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        for key, module in dict(modules).items():
            self[key] = module
