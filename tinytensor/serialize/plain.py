"""What a pickle of plain data may rebuild, and the few types that stand for what it may not.

Arrays, dtypes, sets and bytes are made here, from arguments that are checked first: nothing of
NumPy is called with what a file says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

ONLY = "a pickle can name any code, so only arrays and plain containers are read"
# bfloat16 as it lies in a file: NumPy has no such number. `widen` makes it float32.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])


def widen(array: np.ndarray) -> np.ndarray:
    """bfloat16 as float32, exactly: its 16 bits are float32's upper half. Others as they are."""
    if array.dtype != BFLOAT16:
        return array
    wide = array["bfloat16"].astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


class Refused(Exception):
    """What an instruction asks for and does not get; `Machine.run` adds file and position."""


class Global(NamedTuple):
    """The name of a function or class. It stays a name."""

    name: str


class Stub:
    """An object of a class that is not here: its name, and the state it was saved with."""

    def __init__(self, name: str):
        self.name = name
        self.state: Any = None

    def __repr__(self) -> str:
        return f"<{self.name}, for its state only>"


class Pending:
    """A value whose contents come with the next BUILD: its `value` until then is itself."""

    def __init__(self, finish: Callable[[Any], Any]):
        self.finish = finish
        self.value: Any = self


class Plain:
    """Rebuilders that together make no more bytes than the file has.

    left        bytes that may still be made
    unfinished  arrays and dtypes that wait for their BUILD
    """

    def __init__(self, size: int):
        self.left = size
        self.unfinished = 0

    def spend(self, nbytes: int) -> None:
        """Count bytes of a new array, string or the like; more than the file has are refused."""
        self.left -= nbytes
        if self.left < 0:
            raise Refused("refuses to go on: its arrays would be larger than the file itself")

    def table(self) -> dict[str, Callable]:
        """What REDUCE may use: more than a literal, yet only data."""
        found: dict[str, Callable] = {"_codecs.encode": self._encode, "numpy.dtype": self._dtype}
        for builtins in ("builtins", "__builtin__"):
            found |= {
                f"{builtins}.set": lambda items=(): set(map(key, checked(items, list, tuple))),
                f"{builtins}.frozenset":
                    lambda items=(): frozenset(map(key, checked(items, list, tuple))),
                f"{builtins}.bytes": lambda: b"",
                f"{builtins}.bytearray": self._bytearray,
                f"{builtins}.complex": lambda re, im: complex(
                    checked(re, float, int), checked(im, float, int)),
            }  # fmt: skip
        found["collections.OrderedDict"] = lambda pairs=(): filled(
            OrderedDict(), [part for pair in checked(pairs, list, tuple) for part in two(pair)]
        )
        for core in ("numpy.core", "numpy._core"):
            found |= {
                f"{core}.multiarray._reconstruct": self._reconstruct,
                f"{core}.multiarray.scalar": lambda dtype, data: self._array(data, dtype, ())[()],
                f"{core}.numeric._frombuffer":
                    lambda data, dtype, shape, order: self._array(data, dtype, shape, order),
            }  # fmt: skip
        # named as arguments of the above; calling them is refused
        self_naming = {"numpy.ndarray": refuse_call, "ml_dtypes.bfloat16": refuse_call}
        return found | self_naming

    def _encode(self, text: str, codec: str = "latin1") -> bytes:
        """How protocols 0 to 2 spell bytes."""
        if codec not in ("latin1", "latin-1"):
            raise Refused(f"refuses the codec {shown(codec)}")
        self.spend(len(checked(text, str)))
        return text.encode("latin1")

    def _bytearray(self, data: Any = b"", codec: str = "latin-1") -> bytearray:
        data = self._encode(data, codec) if isinstance(data, str) else checked(data, bytes)
        self.spend(len(data))
        return bytearray(data)

    def _dtype(self, code: Any, align: Any = False, copy: Any = False) -> Pending:
        """The dtype itself is only made with its byte order, in BUILD."""

        def finish(state: tuple) -> np.dtype:
            order = checked(state, tuple)[1]
            if order not in ("<", ">", "|", "="):
                raise Refused(f"is damaged: the byte order {shown(order)}")
            if isinstance(code, Global) and code.name == "ml_dtypes.bfloat16":
                return BFLOAT16
            try:
                dtype = np.dtype(checked(code, str))
            except TypeError:
                raise Refused(f"is damaged: the dtype {shown(code)}") from None
            if dtype.kind not in "biufcSU":
                raise Refused(f"refuses arrays of dtype {dtype}: numbers and text only")
            return dtype if order == "|" else dtype.newbyteorder(order)

        return self._pending(finish)

    def _reconstruct(self, cls: Any, shape: Any, code: Any) -> Pending:
        if not (isinstance(cls, Global) and cls.name == "numpy.ndarray"):
            raise Refused(f"refuses an array of {shown(cls)}: plain ndarrays only")

        def finish(state: tuple) -> np.ndarray:
            shape, dtype, fortran, data = checked(state, tuple)[-4:]
            return self._array(data, dtype, shape, "F" if fortran else "C")

        return self._pending(finish)

    def _pending(self, finish: Callable) -> Pending:
        self.unfinished += 1
        return Pending(finish)

    def _array(self, data: Any, dtype: Any, shape: Any, order: str = "C") -> np.ndarray:
        """An array of its own, writable memory; a bytearray (protocol 5) becomes that memory."""
        if isinstance(data, str):  # Python 2's str
            data = data.encode("latin1")
        data, dtype = checked(data, bytes, bytearray), checked(dtype, np.dtype)
        shape = whole_numbers(shape)
        if prod(shape) * dtype.itemsize != len(data):
            raise Refused(
                f"is damaged: an array of shape {shape} and dtype {dtype} holds {len(data):,} bytes"
            )
        self.spend(len(data))
        if not dtype.itemsize or not data:
            return np.zeros(shape, dtype)
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")
        return array if isinstance(data, bytearray) else array.copy(order="K")


def refuse_call(*args: Any) -> Any:
    raise Refused(f"refuses to make an array or dtype other than NumPy's own way: {ONLY}")


def key(value: Any) -> Any:
    """A dict's key or a set's member. Of tuples only flat ones: hashing nests takes for ever."""
    for part in value if type(value) is tuple else (value,):
        if part is not None and type(part) not in (str, bytes, int, float, bool, complex):
            raise Refused(f"refuses the key {shown(part)}: text, numbers and flat tuples only")
    return value


def filled(target: dict, items: list) -> dict:
    if len(items) % 2:
        raise Refused("is damaged: a dict's last key has no value")
    for name, value in zip(items[::2], items[1::2]):
        target[key(name)] = value
    return target


def two(pair: Any) -> Any:
    if len(checked(pair, list, tuple)) != 2:
        raise Refused("is damaged: a dict made of something other than pairs")
    return pair


def checked(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise Refused(f"is damaged: {shown(value)} where {kinds[0].__name__} belongs")
    return value


def whole_numbers(values: Any) -> tuple[int, ...]:
    """A shape, or strides: whole numbers from 0 to 2^62, at most 64 of them (NumPy's limit)."""
    values = tuple(checked(values, tuple, list))
    if len(values) > 64 or not all(type(n) is int and 0 <= n < 2**62 for n in values):
        raise Refused(f"is damaged: the sizes {shown(values)}")
    return values


def shown(value: Any) -> str:
    """A value in a message, short whatever it is."""
    if isinstance(value, Global):
        return value.name
    if isinstance(value, str | bytes | int | float | Stub):
        text = repr(value[:40] if isinstance(value, str | bytes) else value)
        return text if len(text) < 80 else f"{text[:60]}..."
    return f"a {type(value).__name__}"
