"""Which kernels ran, and a kernel on memory that a view gives: aligned to its elements alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tinytensor.kernels.cuda import launch


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


def shifted(file: str, entry: str) -> tuple[str, str]:
    """A source with one entry more, and its name: it takes every array one element further on."""
    text = launch.source(file)
    parameters = launch.entries(text)[entry]
    declared = ", ".join(
        f"{'const ' * p.const}{p.type}{'*' * p.pointer} {p.name}" for p in parameters
    )
    passed = ", ".join(f"{p.name} ? {p.name} + 1 : {p.name}" if p.pointer else p.name
                       for p in parameters)  # fmt: skip
    name = f"{entry}_shifted"
    return text + f'extern "C" __global__ void {name}({declared}) {{ {entry}({passed}); }}\n', name


def one_in_front(a: np.ndarray | None) -> np.ndarray | None:
    """The numbers of an array, and one before them."""
    return None if a is None else np.concatenate([a.reshape(-1)[:1], a.reshape(-1)])
