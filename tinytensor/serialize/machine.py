"""Reading pickles without running them.

A pickle is a program for a small stack machine, and two of its instructions are the danger: GLOBAL
fetches any function by name, REDUCE calls it. This machine has the same stack, but

    GLOBAL  gives a Global: a name and nothing more. Nothing is imported
    REDUCE  looks the name up in a table of rebuilders, see plain.py; a name that is not in it is
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
from typing import Any, BinaryIO

from ..errors import CheckpointError
from .plain import ONLY, Global, Pending, Plain, Refused, Stub, filled, key, shown

LONGEST_INT = 4096  # bits
INERT = {"argparse.Namespace", "types.SimpleNamespace"}  # the standard library's records


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
        self.where, self.plain = where, Plain(size)
        self.rebuilders = {**self.plain.table(), **(rebuilders or {})}
        self.names, self.stubs, self.persistent = names, stubs, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        """The value of the pickle that begins here; the file is left just behind it."""
        start = position = file.tell()
        try:
            for opcode, arg, at in pickletools.genops(file):
                position = start if at is None else at
                self._step(opcode.name, arg)
            if self.plain.unfinished:
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
            self.plain.unfinished -= 1
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
