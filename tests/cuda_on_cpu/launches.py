"""Which kernels ran."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinytensor.kernels.cuda.launch import Kernel


@contextmanager
def launches(*files: str) -> Iterator[list[str]]:
    """`with launches() as names:` the entries that are launched inside, in order; with names of
    sources, as launches("norm"), theirs alone."""
    names: list[str] = []
    call = Kernel.__call__

    def recorded(kernel: Kernel, *args: Any, **kwargs: Any) -> None:
        if not files or kernel.file in files:
            names.append(kernel.name)
        call(kernel, *args, **kwargs)

    Kernel.__call__ = recorded  # type: ignore[method-assign]
    try:
        yield names
    finally:
        Kernel.__call__ = call  # type: ignore[method-assign]
