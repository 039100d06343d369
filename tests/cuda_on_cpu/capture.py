"""Streams, and CUDA graphs: what a capturing stream is given is written down, and done at launch.

To write down what an operation makes, it has to be done once. So a capture keeps what is in all
memory when it begins and puts that back when it ends; memory made meanwhile is poisoned.
"""

from __future__ import annotations

import weakref
from functools import wraps
from typing import Any

import numpy as np

from .device import CUDARuntimeError, Memory, current, wait
from .shim import poisoned


def launched(function):
    """Decorator: what runs on the device, and so is part of a graph if a stream captures."""

    @wraps(function)
    def run(*args, **kwargs):
        capture = current.capture
        if capture is None or capture.inside:
            return function(*args, **kwargs)
        return capture.note(function, args, kwargs)

    return run


class Capture:
    def __init__(self):
        self.before = {id(m): (m, m.array.copy()) for m in list(Memory.live)}
        self.inside = False  # an operation, whose parts are not noted again
        self.notes: list[tuple] = []
        self.borrowed: list[weakref.ref] = []  # memory of others that launches will touch
        self.own: list[Memory] = []  # made here: the graph's own pool keeps it

    def note(self, function, args, kwargs):
        self.inside = True
        try:
            result = function(*args, **kwargs)
        finally:
            self.inside = False
        made = arrays_of(result)
        self.own += [a._memory for a in made if id(a._memory) not in self.before]
        outputs = [a._a for a in made]
        self.notes.append((function, self.addressed(args), self.addressed(kwargs), outputs))
        return result

    def addressed(self, x: Any) -> Any:
        """Arguments as a graph holds them: addresses, which keep nothing alive."""
        if isinstance(x, dict):
            return {k: self.addressed(v) for k, v in x.items()}
        if type(x) in (list, tuple):
            return type(x)([self.addressed(v) for v in x])
        if not hasattr(x, "_memory"):
            return x
        if id(x._memory) in self.before:
            self.borrowed.append(weakref.ref(x._memory))
        same = object.__new__(type(x))
        same._a, same.base, same._memory = x._a, None, Place(x._memory.device_id)
        return same

    def end(self) -> Graph:
        for memory, contents in self.before.values():
            if memory.array.flags.writeable:
                memory.array[...] = contents
        for memory in self.own:
            if memory.array.flags.writeable:
                poisoned(memory.array)
        self.before.clear()
        return Graph(self)


class Place:
    """What a graph knows of memory: the device it is on."""

    def __init__(self, device_id: int):
        self.device_id = device_id


class Graph:
    """`stream.end_capture()`: launch() does, on the current stream, all that was noted."""

    def __init__(self, capture: Capture):
        self._notes, self._borrowed, self._own = capture.notes, capture.borrowed, capture.own

    def launch(self, stream: Stream | None = None) -> None:
        if current.capture is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: a launch in a capture")
        if any(ref() is None for ref in self._borrowed):
            raise CUDARuntimeError("a graph's launch touches memory that was given back")
        for function, args, kwargs, outputs in self._notes:
            for old, new in zip(outputs, arrays_of(function(*args, **kwargs))):
                if not np.may_share_memory(old, new._a):
                    old[...] = new._a

    def upload(self, stream: Stream | None = None) -> None:
        pass


class Stream:
    """Work is done in order, at once. Stream() is a new one; the default cannot capture."""

    ptr = 0

    def __init__(self, null: bool = False, non_blocking: bool = False):
        self.null = null
        self._before: list = []

    @staticmethod
    def current() -> Stream:
        return current.stream or Stream(null=True)

    def use(self) -> Stream:
        current.stream = None if self.null else self
        return self

    def synchronize(self) -> None:
        wait("Stream.synchronize()")

    def __enter__(self) -> Stream:
        self._before.append(current.stream)
        return self.use()

    def __exit__(self, *exc: object) -> None:
        current.stream = self._before.pop()

    def begin_capture(self, mode: int | None = None) -> None:
        if self.null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if current.stream is not self:
            raise NotImplementedError("the stand-in captures the current stream only")
        current.capture = Capture()

    def end_capture(self) -> Graph:
        capture, current.capture = current.capture, None
        return capture.end()

    def is_capturing(self) -> bool:
        return current.capture is not None and current.stream is self


def arrays_of(result: Any) -> list:
    """The arrays of a result."""
    if type(result) in (list, tuple):
        return [a for r in result for a in arrays_of(r)]
    return [result] if hasattr(result, "_memory") else []
