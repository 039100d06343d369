"""What is switched on while code runs: recording, and watchers. All of it is thread-local."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any


class _Mode(threading.local):
    enabled = True  # are ops recorded?
    watchers: tuple = ()  # Watchers, the innermost first
    autocast: Any = None  # amp.autocast.Casts: what ops cast their arguments to


mode = _Mode()


class Watcher:
    """Looks on inside `with watcher:` as ops run and as backward visits them. Thread-local.

    Anomaly detection, checkpointing and the record of contributions are built on it.
    """

    def __enter__(self) -> Any:
        mode.watchers = (self, *mode.watchers)
        return self

    def __exit__(self, *exc: object) -> None:
        i = mode.watchers.index(self)
        mode.watchers = (*mode.watchers[:i], *mode.watchers[i + 1 :])

    def forward(self, op: Any, args: tuple, static: dict, outs: tuple, node: Any) -> None:
        """An op made the Tensors outs; node is on the tape, or None if nothing was recorded."""

    def backward(self, node: Any, g: Any, grads: list) -> None:
        """The rules of node turned g into grads, one for each argument, or None."""


class set_grad_enabled:
    """Record ops or not, as a statement, a `with` block or a decorator."""

    def __init__(self, enabled: bool):
        self.enabled, self.previous = bool(enabled), mode.enabled
        mode.enabled = self.enabled

    def __enter__(self) -> None:
        mode.enabled = self.enabled

    def __exit__(self, *exc: object) -> None:
        mode.enabled = self.previous

    def __call__(self, f: Callable) -> Callable:
        mode.enabled = self.previous  # a decorator changes nothing until the function runs
        return decorate(lambda: set_grad_enabled(self.enabled), f)


class no_grad:
    """Inside, ops leave no tape: `with tt.no_grad():` or `@tt.no_grad()`. Nests; thread-local."""

    enabled = False

    previous: list

    def __new__(cls, f: Callable | None = None) -> Any:
        if f is not None:
            return decorate(cls, f)  # bare @no_grad
        self = super().__new__(cls)
        self.previous = []  # a stack: one object may be entered again inside itself
        return self

    def __enter__(self) -> None:
        self.previous.append(mode.enabled)
        mode.enabled = self.enabled

    def __exit__(self, *exc: object) -> None:
        mode.enabled = self.previous.pop()

    def __call__(self, f: Callable) -> Callable:
        return decorate(type(self), f)


class enable_grad(no_grad):
    """Inside, ops are recorded again, also within a no_grad block."""

    enabled = True


def decorate(context: Callable, f: Callable) -> Callable:
    import inspect

    if inspect.isgeneratorfunction(f):

        @functools.wraps(f)
        def generator(*args: Any, **kwargs: Any) -> Any:
            steps = f(*args, **kwargs)
            resume, value = steps.send, None
            while True:  # the mode holds while f runs, not while its caller does
                with context():
                    try:
                        item = resume(value)
                    except StopIteration as stop:
                        return stop.value
                try:
                    resume, value = steps.send, (yield item)
                except GeneratorExit:
                    with context():
                        steps.close()
                    raise
                except BaseException as error:
                    resume, value = steps.throw, error

        return generator

    @functools.wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        with context():
            return f(*args, **kwargs)

    return function


def is_grad_enabled() -> bool:
    return mode.enabled
