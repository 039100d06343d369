"""Which kernels ran, and a kernel on memory that a view gives: aligned to its elements alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinytensor.kernels.cuda import launch

from .schedules import run_everywhere


@contextmanager
def launches() -> Iterator[list[str]]:
    """`with launches() as names:` the entries that are launched inside, in order."""
    names: list[str] = []
    call = launch.Kernel.__call__

    def recorded(self, *args, **kwargs):
        names.append(self.name)
        return call(self, *args, **kwargs)

    launch.Kernel.__call__ = recorded
    try:
        yield names
    finally:
        launch.Kernel.__call__ = call


@functools.cache
def with_shifted(file: str) -> str:
    """A source with each entry once more, as NAME_shifted: every array one element further on."""
    text = more = launch.source(file)
    for name, parameters in launch.entries(text).items():
        declared = ", ".join(
            f"{'const ' * p.const}{p.type}{'*' * p.pointer} {p.name}" for p in parameters
        )
        passed = ", ".join(
            f"{p.name} ? {p.name} + 1 : {p.name}" if p.pointer else p.name for p in parameters
        )
        more += f'extern "C" __global__ void {name}_shifted({declared}) {{ {name}({passed}); }}\n'
    return more


def run_in_memory(
    file: str, entry: str, grid: tuple, block: tuple, args: Sequence[Any], *,
    real: str, shared: int = 0, unaligned: bool = False,
) -> list[np.ndarray]:  # fmt: skip
    """run_everywhere, with `unaligned` on arrays that start one element into their memory."""
    text = with_shifted(file)
    if not unaligned:
        return run_everywhere(file, entry, grid, block, args, real=real, shared=shared, source=text)
    outs = run_everywhere(
        file, f"{entry}_shifted", grid, block,
        [_one_in_front(a) if isinstance(a, np.ndarray) else a for a in args],
        real=real, shared=shared, source=text,
    )  # fmt: skip
    written = [
        a for p, a in zip(launch.entries(text)[entry], args, strict=True)
        if p.pointer and not p.const and a is not None
    ]  # fmt: skip
    return [o[1:].reshape(a.shape) for o, a in zip(outs, written, strict=True)]


def _one_in_front(a: np.ndarray) -> np.ndarray:
    """The numbers of an array, and one before them."""
    return np.concatenate([a.reshape(-1)[:1], a.reshape(-1)])
