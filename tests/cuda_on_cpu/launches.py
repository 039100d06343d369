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
    """A source with each entry once more, as NAME_shifted: of one argument more, a number whose bits
    say which of the others start one element further on."""
    text = more = launch.source(file)
    for name, parameters in launch.entries(text).items():
        declared = [f"{'const ' * p.const}{p.type}{'*' * p.pointer} {p.name}" for p in parameters]
        passed = [f"{p.name} + (shift >> {i} & 1)" if p.pointer else p.name
                  for i, p in enumerate(parameters)]  # fmt: skip
        more += (
            f'extern "C" __global__ void {name}_shifted({", ".join(declared)}, unsigned shift) '
            f"{{ {name}({', '.join(passed)}); }}\n"
        )
    return more


def run_shifted(
    file: str, entry: str, grid: tuple, block: tuple, args: Sequence[Any], *,
    real: str, shared: int = 0, shift: int = 0,
) -> list[np.ndarray]:  # fmt: skip
    """run_everywhere; the i-th argument, an array, starts one element into its memory if bit i of
    `shift` is set: -1 shifts all."""
    text = with_shifted(file)
    parameters = launch.entries(text)[entry]
    moved = [p.pointer and a is not None and bool(shift >> i & 1)
             for i, (p, a) in enumerate(zip(parameters, args, strict=True))]  # fmt: skip
    bits = sum(m << i for i, m in enumerate(moved))
    passed = [np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]) if m else a
              for a, m in zip(args, moved)]  # fmt: skip
    outs = run_everywhere(file, f"{entry}_shifted", grid, block, [*passed, bits],
                          real=real, shared=shared, source=text)  # fmt: skip
    written = [(a, m) for p, a, m in zip(parameters, args, moved)
               if p.pointer and not p.const and a is not None]  # fmt: skip
    return [o.reshape(-1)[int(m) :].reshape(a.shape) for o, (a, m) in zip(outs, written, strict=True)]
