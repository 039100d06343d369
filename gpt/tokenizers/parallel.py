"""Text cut into parts that do not depend on each other, and jobs spread over processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

PART = 1 << 18  # characters


def parts(chunks: Iterable[str], cut: Callable[[str], int]) -> Iterator[str]:
    """The text of all chunks in parts of about `PART` characters, ending where `cut` allows.

    cut: the last place where a text may be cut whatever follows it, or 0: then more is read.
    """
    waiting, size, enough = list[str](), 0, PART
    for chunk in chunks:
        for start in range(0, len(chunk), PART):
            waiting.append(chunk[start : start + PART])
            size += len(waiting[-1])
            if size < enough:
                continue
            text = "".join(waiting)
            end = cut(text)
            if end:
                yield text[:end]
            waiting, size = [text[end:]], len(text) - end
            enough = PART if end else 2 * size  # doubling: a long piece is searched few times
    if size:
        yield "".join(waiting)


def in_order(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    start: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """`map(function, jobs)` by so many processes, never more than a few jobs ahead.

    Each process first calls `start(*given)`. Here, without any process, if there is one worker.
    """
    if workers < 2:
        if start:
            start(*given)
        yield from map(function, jobs)
        return
    with ProcessPoolExecutor(workers, initializer=start, initargs=given) as pool:
        running: deque[Any] = deque()
        for job in jobs:
            running.append(pool.submit(function, job))
            if len(running) > 2 * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
