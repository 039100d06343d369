"""Reading pickles without running them.

A pickle is a program for a small stack machine, and two of its instructions are the danger: GLOBAL
fetches any function by name, REDUCE calls it. This machine has the same stack, but

    GLOBAL  gives a Global: a name and nothing more. Nothing is imported
    REDUCE  looks the name up in a table of rebuilders written here; a name that is not in it is
            refused, by name and position
    BUILD   hands a state to one of our own objects, never to a class's __setstate__

so that what a pickle can do is what the tables say. The standard library's `pickletools.genops`
takes the bytes apart. Memory is bounded by the file's size: counts are checked against what is
there, and arrays together may not be larger than the bytes they are made of.
"""

from __future__ import annotations

import pickletools
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from math import prod
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import CheckpointError

# bfloat16 as it lies in a file: NumPy has no such number. `widen` makes it float32.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
LONGEST_INT = 4096  # bits
INERT = {"argparse.Namespace", "types.SimpleNamespace"}  # the standard library's records


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
        self.name, self.state = name, None

    def __repr__(self) -> str:
        return f"<{self.name}, for its state only>"


class Pending:
    """A value whose contents come with the next BUILD: its `value` until then is itself."""

    def __init__(self, finish: Callable[[Any], Any]):
        self.finish = finish
        self.value: Any = self


class Mark:
    """Where the items of a tuple, list or dict begin on the stack."""


MARK = Mark()


class Machine:
    """One pickle's stack and memo.

    where       the file, for messages
    size        bytes in it: what arrays may add up to
    rebuilders  {name: function(*args)} that REDUCE may use
    names       further names that may occur, as values
    stubs       objects of unknown classes become Stubs, instead of being refused
    persistent  what a persistent id stands for, if the format has them
    """

    def __init__(
        self, where: str, size: int, *, rebuilders: Mapping[str, Callable] | None = None,
        names: Collection[str] = (), stubs: bool = False,
        persistent: Callable[[Any], Any] | None = None,
    ):  # fmt: skip
        self.where, self.left = where, size
        self.rebuilders = {**self._plain(), **(rebuilders or {})}
        self.names, self.stubs, self.persistent = names, stubs, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.unfinished = 0

    def run(self, file: BinaryIO) -> Any:
        """The value of the pickle that begins here; the file is left just behind it."""
        start = position = file.tell()
        try:
            for opcode, arg, at in pickletools.genops(file):
                position = start if at is None else at
                self._step(opcode.name, arg)
            if self.unfinished:
                raise Refused("is damaged: an array lacks its contents")
            value = self._pop()
            if self.stack:
                raise Refused("is damaged: values are left over")
            return value
        except Refused as error:
            raise CheckpointError(f"{self.where}: {error} (at byte {position:,})") from None
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError) as e:
            raise CheckpointError(
                f"{self.where}: is no pickle, or a damaged one, from byte {position:,} on: {e}"
            ) from None

    # ------------------------------------------------------------------------ instructions

    def _step(self, op: str, arg: Any) -> None:
        if op in CONSTANTS:
            if type(arg) is int and arg.bit_length() > LONGEST_INT:
                raise Refused(f"holds a whole number of {arg.bit_length():,} bits")
            self.stack.append(arg)
        elif op in EMPTY:
            self.stack.append(EMPTY[op]())
        else:
            handler = getattr(self, f"_{op.lower()}", None)
            if handler is None:
                raise Refused(f"refuses the instruction {op}: {REASONS.get(op, 'unknown')}")
            handler() if arg is None else handler(arg)

    def _proto(self, arg: int) -> None: ...
    def _frame(self, arg: int) -> None: ...
    def _stop(self) -> None: ...

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise Refused("is damaged: a mark where a value belongs")
        return value

    def _peek(self) -> Any:
        value = self.stack[-1]
        if value is MARK or isinstance(value, Pending):  # so that none gets into a container
            raise Refused("is damaged: a value is used before it is complete")
        return value

    def _items(self) -> list[Any]:
        """What lies above the last mark, which goes too."""
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
            if at < 0:
                raise Refused("is damaged: a mark is missing")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _mark(self) -> None:
        self.stack.append(MARK)

    def _pop_mark(self) -> None:
        self._items()

    def _dup(self) -> None:
        self.stack.append(self._peek())

    def _memoize(self) -> None:
        self._put(len(self.memo))

    def _put(self, index: int) -> None:
        self.memo[index] = self._pop()
        self.stack.append(self.memo[index])

    _binput = _long_binput = _put

    def _get(self, index: int) -> None:
        if index not in self.memo:
            raise Refused(f"is damaged: nothing was remembered as {index}")
        value = self.memo[index]
        self.stack.append(value.value if isinstance(value, Pending) else value)
        self._peek()

    _binget = _long_binget = _get

    def _list(self) -> None:
        self.stack.append(self._items())

    def _tuple(self) -> None:
        self.stack.append(tuple(self._items()))

    def _tuple1(self) -> None:
        self._tuple_of(1)

    def _tuple2(self) -> None:
        self._tuple_of(2)

    def _tuple3(self) -> None:
        self._tuple_of(3)

    def _tuple_of(self, count: int) -> None:
        self.stack.append(tuple([self._pop() for _ in range(count)][::-1]))

    def _dict(self) -> None:
        self.stack.append(filled({}, self._items()))

    def _frozenset(self) -> None:
        self.stack.append(frozenset(map(key, self._items())))

    def _append(self) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self) -> None:
        items = self._items()
        self._top(list).extend(items)

    def _setitem(self) -> None:
        value, name = self._pop(), self._pop()
        self._top(dict)[key(name)] = value

    def _setitems(self) -> None:
        items = self._items()
        filled(self._top(dict), items)

    def _additems(self) -> None:
        items = self._items()
        self._top(set).update(map(key, items))

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise Refused(f"refuses items for what is no {kind.__name__}: {shown(self.stack[-1])}")
        return self.stack[-1]

    def _global(self, arg: str) -> None:
        name = arg.replace(" ", ".")
        root = name.split(".")[0]
        if name not in self.rebuilders and name not in self.names:
            known = root in sys.stdlib_module_names or root == "__builtin__"
            if not self.stubs or (known and name not in INERT):
                raise Refused(f"refuses {name}: {ONLY}")
        self.stack.append(Global(name))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise Refused("is damaged: a name that is no text")
        self._global(f"{module} {name}")

    def _inst(self, arg: str) -> None:
        args = self._items()
        self._global(arg)
        self.stack.append(tuple(args))
        self._reduce()

    def _obj(self) -> None:
        cls, *args = self._items()
        self.stack += [cls, tuple(args)]
        self._reduce()

    def _reduce(self) -> None:
        args, function = self._pop(), self._pop()
        name = function.name if isinstance(function, Global) else shown(function)
        if not isinstance(function, Global) or name not in self.rebuilders:
            raise Refused(f"refuses to call {name}: {ONLY}")
        if not isinstance(args, tuple):
            raise Refused(f"is damaged: {name} is called with {shown(args)}")
        try:
            self.stack.append(self.rebuilders[name](*args))
        except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
            raise Refused(f"is damaged: {name} cannot take what it is given: {error}") from None

    def _newobj(self) -> None:
        args, cls = self._pop(), self._pop()
        if not isinstance(cls, Global):
            raise Refused(f"refuses an object of {shown(cls)}: {ONLY}")
        if cls.name in self.rebuilders:
            self.stack += [cls, args]
            return self._reduce()
        if not self.stubs:
            raise Refused(f"refuses {cls.name}: {ONLY}")
        self.stack.append(Stub(cls.name))

    def _newobj_ex(self) -> None:
        keywords = self._pop()
        if keywords:
            raise Refused(f"refuses an object made with keywords: {shown(keywords)}")
        self._newobj()

    def _build(self) -> None:
        state, target = self._pop(), self.stack[-1]
        if isinstance(target, Pending):
            target.value = self.stack[-1] = target.finish(state)
            self.unfinished -= 1
        elif isinstance(target, Stub):
            target.state = state
        elif not isinstance(target, OrderedDict):  # its attributes, such as _metadata: not needed
            raise Refused(f"refuses a state for {shown(target)}: {ONLY}")

    def _binpersid(self) -> None:
        self._persid(self._pop())

    def _persid(self, pid: Any) -> None:
        if self.persistent is None:
            raise Refused(f"refuses the persistent id {shown(pid)}: only torch's files have them")
        self.stack.append(self.persistent(pid))

    # ------------------------------------------------------------------------ plain rebuilders

    def spend(self, nbytes: int) -> None:
        """Count bytes of a new array, string or the like; more than the file has are refused."""
        self.left -= nbytes
        if self.left < 0:
            raise Refused("refuses to go on: its arrays would be larger than the file itself")

    def _plain(self) -> dict[str, Callable]:
        """What is more than a literal in a pickle, yet only data."""
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
            dtype = np.dtype(checked(code, str))
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


ONLY = "a pickle can name any code, so only arrays and plain containers are read"
REASONS = {
    "NEXT_BUFFER": "its data is in another file",
    "READONLY_BUFFER": "its data is in another file",
    **dict.fromkeys(["EXT1", "EXT2", "EXT4"], "it stands for code registered elsewhere"),
}
EMPTY: dict[str, Callable] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
CONSTANTS = set(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE "
    "BINUNICODE8".split()
)


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
