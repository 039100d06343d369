"""Where the memory of this process is: `print(tt.memory_summary())`.

Tensors are found by asking Python for all objects there are, which takes milliseconds: nothing is
counted while a program runs. Views of one memory count once. For arrays on a GPU see tt.cuda.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np

from .autograd import Node, Variable
from .describe import size
from .kernels.memory import free_for_reuse, resident
from .nn.parameter import Parameter
from .tape import memory


def memory_stats() -> dict[str, int]:
    """Bytes in main memory, by what holds them.

    parameters, gradients  of all modules and tensors alive
    tape                   what ops keep for backward, and nothing else holds
    tensors                all others: batches, results, an optimizer's averages
    free                   freed arrays, kept for the next ones; release_memory() returns it.
                           0 where the C library is not glibc 2.33 or later
    resident, peak         of the process: now, and at most so far. 0 where not known
    """
    # by type(o): isinstance asks o for its class, and proxies of other libraries do things then
    objects = [o for o in gc.get_objects() if issubclass(type(o), (Variable, Node))]
    tensors = [o for o in objects if isinstance(o, Variable)]
    groups = {
        "parameters": (t.array for t in tensors if isinstance(t, Parameter)),
        "gradients": (t.grad.array for t in tensors if t.grad is not None),
        "tensors": (t.array for t in tensors),
        "tape": (a for o in objects if isinstance(o, Node) for a in _kept(o)),
    }
    seen: set[int] = set()
    stats = {name: _bytes(arrays, seen) for name, arrays in groups.items()}
    now, peak = resident()
    return {**stats, "free": free_for_reuse(), "resident": now, "peak": peak}


def memory_summary() -> str:
    """memory_stats() as a table."""
    return "\n".join(f"{name:<12}{size(n):>12}" for name, n in memory_stats().items())


def _kept(node: Any) -> Iterator[Any]:
    """The values and inputs that a node of the tape keeps."""
    waiting = [getattr(node, "values", None), getattr(node, "inputs", None)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (tuple, list)):
            waiting += value
        else:
            yield value


def _bytes(arrays: Any, seen: set[int]) -> int:
    """Of the memory behind these NumPy arrays, as far as it was not seen before."""
    total = 0
    for a in arrays:
        if isinstance(a, np.ndarray) and not isinstance(a, np.memmap):
            owner = memory(a)
            if id(owner) not in seen:
                seen.add(id(owner))
                total += owner.nbytes
    return total
