"""What an optimizer does with all of its tensors at once, on CUDA: the launches of adamw.cu.

They take float32 arrays without gaps, on one device; whoever calls asks `takes` first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from operator import is_
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ... import backend
from ...autograd import Variable, wrap
from ...backend import Array
from .launch import kernel, source

MANY, CHUNK, THREADS = (
    int(re.search(rf"#define {name} (\d+)", source("adamw"))[1])  # type: ignore[index]
    for name in ("MANY", "CHUNK", "THREADS")
)


def takes(arrays: Sequence[Array]) -> bool:
    """Are these what the kernels are for?"""
    return (
        bool(arrays)
        and not isinstance(arrays[0], np.ndarray)
        and all(a.dtype == np.float32 and a.size and a.flags.c_contiguous for a in arrays)
        and len({a.device.id for a in arrays}) == 1
    )


@cache  # for good: captured graphs go on reading them
def _cut(sizes: tuple[int, ...], device: int) -> tuple[Array, Array]:
    """(chunks, sizes) on the device, for tensors of these sizes: uploaded once."""
    counts = [-(-size // CHUNK) for size in sizes]
    chunks = np.empty((sum(counts), 2), np.int32)
    chunks[:, 0] = np.repeat(np.arange(len(sizes)), counts)
    chunks[:, 1] = np.concatenate([np.arange(count) for count in counts])
    xp = backend.cupy()
    return xp.asarray(chunks), xp.asarray(np.array(sizes, np.int64))


def _launches(arrays: Sequence[Array]) -> Iterator[tuple[slice, Array, Array, np.ndarray]]:
    """Which tensors, their chunks and sizes, and their addresses, for each launch."""
    for i in range(0, len(arrays), MANY):
        some = arrays[i : i + MANY]
        chunks, sizes = _cut(tuple([a.size for a in some]), some[0].device.id)
        yield slice(i, i + len(some)), chunks, sizes, _pointers(some)


def _pointers(arrays: Iterable[Array]) -> np.ndarray:
    """The struct Pointers: it goes to the kernel by value."""
    pointers = np.zeros(MANY, np.uint64)
    addresses = [a.data.ptr for a in arrays]
    pointers[: len(addresses)] = addresses
    return pointers


def total_norm(arrays: Sequence[Array]) -> Array:
    """sqrt(sum of all squares), 0-d: two runs give the same bits."""
    xp = backend.cupy()
    with backend.using(arrays[0]):
        launches = list(_launches(arrays))
        partial = xp.empty(sum(len(chunks) for _, chunks, _, _ in launches), np.float32)
        start = 0
        for _, chunks, sizes, pointers in launches:
            own = partial[start : start + len(chunks)]
            start += len(chunks)
            kernel("adamw", "sum_squares")((len(chunks),), (THREADS,), own, chunks, sizes, pointers)
        norm = xp.empty((), np.float32)
        kernel("adamw", "total_norm")((1,), (1024,), norm, partial, len(partial))
    return norm


def scale_(arrays: Sequence[Array], factor: Array, found_inf: Array | None = None) -> None:
    """All arrays *= factor, 0-d; found_inf becomes 1 if a number in them was not finite."""
    with backend.using(arrays[0]):
        for _, chunks, sizes, pointers in _launches(arrays):
            kernel("adamw", "scale")(
                (len(chunks),), (THREADS,), chunks, sizes, pointers, factor, found_inf
            )


# ------------------------------------------------------------------------------ Adam, AdamW


class Table:
    """Parameters on one device, and their state, where the kernel finds them: built once and kept.

    addresses  (4, n): of parameters, means, means of squares, and, with amsgrad, their maxima
    steps      (n,): how many each has made; state["step"] is a view of its own
    """

    def __init__(self, params: Sequence[Any], states: Sequence[dict]):
        self.params = params
        arrays = [p.array for p in params]
        with backend.using(arrays[0]):
            xp = backend.cupy()
            addresses = np.zeros((4, len(params)), np.uint64)
            for row, own in enumerate((arrays, *([s[m].array for s in states] for m in MOMENTS
                                                 if m in states[0]))):  # fmt: skip
                addresses[row] = [a.data.ptr for a in own]
            self.addresses = xp.asarray(addresses)
            self.steps = xp.asarray(np.array([int(s["step"]) for s in states], np.int64))
            self.finished = xp.zeros(1, np.uint32)
            self.lr = xp.zeros((), np.float32)
        self.rate: float | None = None  # what is in lr
        for i, state in enumerate(states):
            state["step"] = wrap(self.steps[i : i + 1].reshape(()))

    def step(self, group: dict[str, Any], decoupled: bool, scale: Any, found_inf: Any) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        grads = [_float32(p.grad.array) for p in self.params]
        with backend.using(self.addresses):
            if isinstance(lr, Variable):
                rate = lr.array
            else:
                rate = self.lr
                if lr != self.rate:
                    rate.fill(lr)
                    self.rate = lr
            chunks, sizes = _cut(tuple([g.size for g in grads]), rate.device.id)
            kernel("adamw", "adamw")(
                (len(chunks),), (THREADS,), chunks, sizes, self.addresses, len(grads),
                _pointers(grads), self.steps, self.finished, rate, scale, found_inf,
                beta1, beta2, 1 - beta1, 1 - beta2, _log(beta1), _log(beta2),
                group["eps"], group["weight_decay"], decoupled, group["amsgrad"],
                group["maximize"],
            )  # fmt: skip


MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class Tables:
    """Those of one group, and the parameters that none of them takes."""

    def __init__(self, params: Sequence[Any], states: Sequence[dict]):
        self.left: list[Any] = []
        self.tables: list[Table] = []
        devices: dict[int, list] = {}
        for p, state in zip(params, states):
            if takes([p.array]):
                devices.setdefault(p.array.device.id, []).append((p, state))
            else:
                self.left.append(p)
        for pairs in devices.values():
            for i in range(0, len(pairs), MANY):
                some, own = zip(*pairs[i : i + MANY])
                self.tables.append(Table(some, own))
        self.held = _held(params, states)

    def fit(self, params: Sequence[Any], states: Sequence[dict]) -> bool:
        """Whether they are still of these arrays."""
        held = _held(params, states)
        return len(held) == len(self.held) and all(map(is_, held, self.held))


def _held(params: Sequence[Any], states: Sequence[dict]) -> list[Any]:
    """What must be the same objects for a table to be right."""
    moments = [s[m].array for s in states for m in MOMENTS if m in s]
    return [p.array for p in params] + moments + [s["step"] for s in states]


_tables: WeakKeyDictionary[Any, dict[int, Tables]] = WeakKeyDictionary()


def adam(optimizer: Any, params: Sequence[Any], group: dict[str, Any], decoupled: bool) -> list:
    """One step of a group, whose parameters all have gradients and state; returns those left.

    grad_scale and found_inf of the optimizer, 0-d on the device, are read there by the kernel.
    """
    known = _tables.setdefault(optimizer, {})
    states = [optimizer.state[p] for p in params]
    tables = known.get(id(group))
    if tables is None or not tables.fit(params, states):
        tables = known[id(group)] = Tables(params, states)
    for table in tables.tables:
        table.step(group, decoupled, *(
            None if t is None else backend.to_device(t.array, backend.device_of(table.lr))
            for t in (optimizer.grad_scale, optimizer.found_inf)
        ))  # fmt: skip
    return tables.left


def _float32(g: Array) -> Array:
    if g.dtype == np.float32 and g.flags.c_contiguous:
        return g
    with backend.using(g):
        return backend.cupy().ascontiguousarray(g, np.float32)


def _log(beta: float) -> float:
    return math.log(beta) if beta else -math.inf
