"""A few threads for work by blocks. NumPy releases the GIL inside its loops, so they run at once.

Each phase owns the cores: while our threads run, BLAS is held to one thread per call, and has all
of its own again afterwards. Blocks are dealt out by number, not by who is free, so sums come out
bit-identical for the same number of threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from . import blas
from .cores import available_cores


class _Pool:
    """Threads that wait for (function, blocks): one fewer than wanted, the caller is the other."""

    def __init__(self) -> None:
        self.size = 0  # decided when first needed
        self.queues: list[SimpleQueue] = []
        self.busy = threading.Lock()  # one parallel phase at a time

    def resize(self, size: int) -> None:
        with self.busy:
            for queue in self.queues:
                queue.put(None)
            self.size, self.queues = size, []

    def start(self) -> None:
        for _ in range(self.size - 1 - len(self.queues)):
            queue: SimpleQueue = SimpleQueue()
            threading.Thread(target=_serve, args=(queue,), daemon=True).start()
            self.queues.append(queue)


def _serve(queue: SimpleQueue) -> None:
    for function, blocks, done in iter(queue.get, None):
        try:
            for block in blocks:
                function(block)
            answer = None
        except BaseException as error:
            answer = error
        function = blocks = block = None  # their arrays are not to be kept until the next phase
        done.put(answer)


_pool = _Pool()


def get_num_threads() -> int:
    """How many threads the CPU kernels use: as many as there are cores, unless set."""
    if not _pool.size:
        _pool.size = available_cores()
    return _pool.size


def set_num_threads(n: int) -> None:
    """Let the CPU kernels, and BLAS where it can be told, use n threads."""
    if n < 1:
        raise ValueError(f"set_num_threads: n must be at least 1, got {n}")
    _pool.resize(n)
    blas.set_threads()(n)


def cut(n: int, parts: int) -> list[slice]:
    """range(n) in so many parts of about one size; none of them is empty."""
    edges = [n * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in zip(edges, edges[1:]) if a < b]


def parallel(function: Callable[[Any], None], blocks: Sequence) -> None:
    """function(block) for every block, spread over the threads; block i goes to thread i mod n."""
    n = min(get_num_threads(), len(blocks))
    if n <= 1 or not _pool.busy.acquire(blocking=False):  # alone, or already inside of a phase
        with one_blas_thread():
            for block in blocks:
                function(block)
        return
    try:
        _pool.start()
        done: SimpleQueue = SimpleQueue()
        for i in range(1, n):
            _pool.queues[i - 1].put((function, blocks[i::n], done))
        error = None
        with one_blas_thread():
            try:
                for block in blocks[::n]:
                    function(block)
            except BaseException as own:
                error = own
            for _ in range(1, n):
                error = done.get() or error
        if error is not None:
            raise error
    finally:
        _pool.busy.release()


class _OneBlasThread:
    """Inside, BLAS runs on the calling thread alone. May be entered inside itself, or at once
    from several threads: the last to leave gives BLAS its threads back."""

    def __init__(self) -> None:
        self.depth, self.lock = 0, threading.Lock()

    def __enter__(self) -> None:
        with self.lock:
            self.depth += 1
            if self.depth == 1:
                blas.set_threads()(1)

    def __exit__(self, *exc: object) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                blas.set_threads()(get_num_threads())


_held = _OneBlasThread()


def _after_fork() -> None:
    """A forked child has none of the threads, nor will they leave what they were inside of."""
    size = _pool.size
    _pool.__init__()  # type: ignore[misc]
    _held.__init__()  # type: ignore[misc]
    _pool.size = size


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def one_blas_thread() -> _OneBlasThread:
    return _held
