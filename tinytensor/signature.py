"""A function's parameters, read off its code object: there are hundreds of ops and rules, and
inspect.signature would take half of the time of `import tinytensor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

REQUIRED: Any = type("required", (), {"__repr__": lambda self: "required"})()
_VARIADIC = 0x04  # inspect.CO_VARARGS


class Signature(NamedTuple):
    positional: list[str]
    variadic: str | None
    keywords: list[str]
    defaults: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order they are written."""
        return (*self.positional, *([self.variadic] if self.variadic else []), *self.keywords)


def signature(f: Callable) -> Signature:
    """The parameters of a plain Python function (or a bound method's own)."""
    f = getattr(f, "__func__", f)
    code: Any = getattr(f, "__code__", None)
    if code is None:
        raise TypeError(f"{f!r} is not a Python function: wrap it in a lambda that names its needs")
    n, k = code.co_argcount, code.co_kwonlyargcount
    names = code.co_varnames
    positional = list(names[:n])
    given = getattr(f, "__defaults__", None) or ()
    defaults = dict(zip(positional[n - len(given) :], given))
    defaults |= getattr(f, "__kwdefaults__", None) or {}
    variadic = names[n + k] if code.co_flags & _VARIADIC else None
    return Signature(positional, variadic, list(names[n : n + k]), defaults)
