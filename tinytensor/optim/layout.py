"""How a step goes over memory on the CPU.

Updates are elementwise, so arrays can be cut and joined as suits the machine; no result depends on
it. Large ones pass through in blocks, which stay in the cache for all operations of a formula.
Small ones are moved side by side, parameters and moments alike, and neighbours are one array to all
operations; only their gradients, which every backward makes anew, are copied together first.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..node import Variable

BLOCK = 1 << 18  # elements; in blocks of 2^16 a step of GPT-2 takes half as long again: threads
# that call NumPy for little work wait for each other at the interpreter's lock
JOINED = 1 << 17  # elements of neighbours: few, so that there are some for each thread
SMALL = 1 << 16  # elements; above, copying gradients takes longer than it saves

State = Mapping[str, Variable]  # of one parameter: its moments by name


class Block(NamedTuple):
    """Neighbours, flat; or a part of one parameter, flat; or all of it, part None."""

    of: list[int]  # their places in the list of parameters
    part: slice | None
    x: np.ndarray
    state: dict[str, np.ndarray]

    def gradient(self, grads: Sequence[np.ndarray], room: np.ndarray) -> np.ndarray:
        """Of x, from those of all parameters; `room`, like x, is for neighbours'."""
        if len(self.of) > 1:
            return np.concatenate([grads[i] for i in self.of], axis=None, out=room)
        g = grads[self.of[0]]
        return g if self.part is None else g.reshape(-1)[self.part]


class Layout:
    """The blocks of some parameters and of the state of each."""

    def __init__(self, params: Sequence[Variable], states: Sequence[State]):
        self.blocks: list[Block] = []
        for run in _runs(params, states):
            joined = _join(run, params, states) if len(run) > 1 else None
            self.blocks += joined or [b for i in run for b in _cut(i, params[i], states[i])]
        self.blocks.sort(key=lambda block: -block.x.size)  # threads take them in turn
        self.arrays = _arrays(params, states)

    def fits(self, params: Sequence[Variable], states: Sequence[State]) -> bool:
        """Is everything where it was, and nothing new?"""
        arrays = _arrays(params, states)
        return len(arrays) == len(self.arrays) and all(map(operator.is_, arrays, self.arrays))

    def alike(
        self, numbers: Sequence[Any], params: Sequence[Variable], states: Sequence[State]
    ) -> list[Block]:
        """The blocks; where numbers differ, some have missed steps, their parameters' own."""
        blocks: list[Block] = []
        for block in self.blocks:
            if all(numbers[i] == numbers[block.of[0]] for i in block.of):
                blocks.append(block)
            else:
                blocks += [b for i in block.of for b in _cut(i, params[i], states[i])]
        return blocks


def largest_block(sizes: Sequence[int]) -> int:
    """Numbers in the largest block of parameters of these sizes: a thread's scratch is like it."""
    joined = min(sum(n for n in sizes if n <= SMALL), JOINED)
    return max([joined, *(min(n, BLOCK) for n in sizes)])


def _arrays(params: Sequence[Variable], states: Sequence[State]) -> list[np.ndarray]:
    return [t.array for p, state in zip(params, states) for t in (p, *state.values())]


def _runs(params: Sequence[Variable], states: Sequence[State]) -> list[list[int]]:
    """Places of small parameters of one kind, together at most JOINED; the others alone."""
    runs: list[list[int]] = []
    begun: dict[tuple, tuple[list[int], int]] = {}  # by kind: the run that takes more, its size
    for i, (p, state) in enumerate(zip(params, states)):
        size = p.array.size
        if not 0 < size <= SMALL:
            runs.append([i])
            continue
        kind = (*state, *[t.array.dtype for t in (p, *state.values())])
        run, so_far = begun.get(kind, ([], JOINED))
        if so_far + size > JOINED:
            run, so_far = [], 0
            runs.append(run)
        run.append(i)
        begun[kind] = run, so_far + size
    return runs


def _join(run: list[int], params: Sequence[Variable], states: Sequence[State]) -> list[Block]:
    """One block of them all; none if one cannot be moved."""
    x = _side_by_side([params[i] for i in run])
    flat = {name: _side_by_side([states[i][name] for i in run]) for name in states[run[0]]}
    return [] if any(a is None for a in (x, *flat.values())) else [Block(run, None, x, flat)]


def _side_by_side(tensors: Sequence[Variable]) -> Any:
    """The memory of all of them as one array, to which they are moved unless they are neighbours.

    None if one cannot be moved: somebody else holds its array, or it is a part of another.
    """
    flat = _neighbours([t.array for t in tensors])
    if flat is not None or not all(map(_movable, tensors)):
        return flat
    flat = np.concatenate([t.array for t in tensors], axis=None)
    start = 0
    for t in tensors:
        size = t.array.size
        t.array = flat[start : start + size].reshape(t.array.shape)
        start += size
    return flat


def _neighbours(arrays: list[np.ndarray]) -> np.ndarray | None:
    """What they are the parts of, if each begins where the one before it ends."""
    whole = arrays[0].base
    if not isinstance(whole, np.ndarray) or whole.ndim != 1 or not whole.flags.c_contiguous:
        return None  # somebody's buffer, or a part of a larger array
    if any(
        a.base is not whole or a.dtype != whole.dtype or not a.flags.c_contiguous for a in arrays
    ):
        return None
    starts = [a.__array_interface__["data"][0] for a in (*arrays, whole)]
    for a, b, a_start in zip(arrays, starts[1:-1], starts):
        if a_start + a.nbytes != b:
            return None
    first = (starts[0] - starts[-1]) // whole.itemsize
    return whole[first : first + sum(a.size for a in arrays)]


def _movable(t: Variable) -> bool:
    array_alone = sys.getrefcount(t.array) <= 2  # the tensor, and this call
    return array_alone and t._base is None and t.array.base is None and t.array.flags.c_contiguous


def _cut(i: int, p: Variable, state: State) -> list[Block]:
    """Parameter i by itself, in blocks if its memory is in one piece."""
    x, own = p.array, {name: t.array for name, t in state.items()}
    if x.size <= BLOCK or not all(a.flags.c_contiguous for a in (x, *own.values())):
        return [Block([i], None, x, own)]
    flat = {name: a.reshape(-1) for name, a in own.items()}
    parts = [slice(start, start + BLOCK) for start in range(0, x.size, BLOCK)]
    return [
        Block([i], s, x.reshape(-1)[s], {name: a[s] for name, a in flat.items()}) for s in parts
    ]
