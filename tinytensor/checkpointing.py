"""checkpoint(f, *args): forget what f's backward needs, and run f again when it is needed.

While f runs, every node it leaves on the tape gives up its saved values for a number: its place in
the order of f's nodes. The first of them that backward visits runs f again, with the random stream
where it was, and all take the values of the node in the same place (Chen et al. 2016, "Training
deep nets with sublinear memory cost"). The graph itself stays as f made it, so gradients reach
whatever f captured, hooks run once, and create_graph works.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from . import random
from .autograd import Node, Variable, Watcher, enable_grad, format_line, mode, user_line
from .errors import ArgumentError, GraphError, InPlaceError


def checkpoint(
    f: Callable,
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """f(*args, **kwargs), whose intermediates are computed again in backward instead of kept.

    Kept are the tensors among args and kwargs. Dropout in f draws the same mask again, unless
    preserve_rng_state is False. Checkpoints may be nested: f's own are run when f is run again.
    use_reentrant is PyTorch's; there is one way here, which is its use_reentrant=False.
    Raises InPlaceError if f writes into a tensor made outside of it, or if what it read was
    overwritten before backward; GraphError if f does something else the second time.
    """
    if use_reentrant:
        raise ArgumentError("checkpoint: use_reentrant=True is not offered: leave it out")
    if not mode.enabled or any(isinstance(w, Run) for w in mode.watchers):
        return f(*args, **kwargs)  # nothing is kept, or all of it is forgotten by the outer one
    run = Run(f, args, kwargs, preserve_rng_state)
    with run:
        out = f(*args, **kwargs)
    run.seal()
    return out


class Run(Watcher):
    """One call of f: what it takes to repeat it, and what its nodes gave up."""

    def __init__(self, f: Callable, args: tuple, kwargs: dict, preserve_rng_state: bool):
        self.f, self.args, self.kwargs = f, args, kwargs
        self.state = random.default_generator.get_state() if preserve_rng_state else None
        self.autocast = mode.autocast and mode.autocast.again()
        self.where = user_line(3)
        self.order: list = []  # (op, line) of each node, in the order f made them
        self.made: dict = {}  # by id, the version cells of what f's nodes made
        self.read: dict = {}  # and of what they read that was there before; with their counts
        self.sealed = False
        self.again: dict | None = None  # place -> what the second run's node keeps
        for t in self.tensors():
            self._reads(t)

    def tensors(self) -> list:
        return [a for a in (*self.args, *self.kwargs.values()) if isinstance(a, Variable)]

    def _reads(self, t: Variable) -> None:
        if id(t._version) not in self.made:
            self.read.setdefault(id(t._version), (t._version, t._version[0]))

    def forward(self, op: Any, args: tuple, static: dict, outs: tuple, node: Any) -> None:
        if node is None:
            return
        for a in args:
            if isinstance(a, Variable):
                self._reads(a)
        for o in outs:
            if id(o._version) not in self.read:  # a view shares the cell of what it views
                self.made[id(o._version)] = o._version
        if node.plan.keeps_arrays:
            node.values = Recipe(self, len(self.order))
            node.inputs, node.static = None, {}
            self.order.append((op, node.where))

    def seal(self) -> None:
        """f has run. It must not have written into what it read: it could not be run again."""
        self.sealed = True
        self.made.clear()
        for cell, count in self.read.values():
            if cell[0] != count:
                raise InPlaceError(
                    f"checkpoint ({format_line(self.where)}): {format_line(cell[1])}, inside of f, "
                    "wrote into a tensor made outside of it, so f cannot be run again: write into "
                    "a .clone()"
                )

    def take(self, place: int) -> tuple:
        """What the node in this place gave up."""
        if self.again is None or place not in self.again:
            self.again = self._repeat()
        return self.again.pop(place)

    def _repeat(self) -> dict:
        for cell, count in self.read.values():
            if cell[0] != count:
                raise InPlaceError(
                    f"checkpoint ({format_line(self.where)}) must run f again, but a tensor that f "
                    f"reads was overwritten by {format_line(cell[1])} since: call backward() "
                    "before that line, or write into a .clone()"
                )
        generator, watchers = random.default_generator, mode.watchers
        now = generator.get_state()
        if self.state is not None:
            generator.set_state(self.state)
        mode.watchers = tuple(w for w in watchers if w is not self)  # if f itself runs a backward
        casts, mode.autocast = mode.autocast, self.autocast and self.autocast.again()
        try:
            with enable_grad(), Collect() as nodes:
                self.f(*self.args, **self.kwargs)
        finally:
            mode.watchers, mode.autocast = watchers, casts
            if self.state is not None:
                generator.set_state(now)
        self._compare([(node.op, node.where) for node in nodes.order])
        # only now: an in-place op gives its node a copy of what it overwrites
        return dict(enumerate((n.values, n.inputs, n.static) for n in nodes.order))

    def _compare(self, order: list) -> None:
        """The second run must have made the same nodes; more, if f itself runs a backward."""
        pairs = zip_longest(self.order, order if self.sealed else order[: len(self.order)])
        for first, second in pairs:
            if first is None or second is None or first[0] is not second[0]:
                was, now = (
                    "nothing" if step is None else f"{step[0].name} ({format_line(step[1])})"
                    for step in (first, second)
                )
                raise GraphError(
                    f"checkpoint ({format_line(self.where)}): run again, f did something else: "
                    f"{was} the first time, {now} the second: f must depend on its arguments alone"
                )


class Recipe:
    """Stands for the values of the node in one place of a Run, and brings them back."""

    def __init__(self, run: Run, place: int):
        self.run, self.place = run, place

    def __call__(self, node: Node) -> None:
        node.values, node.inputs, node.static = self.run.take(self.place)


class Collect(Watcher):
    """The second run: lists its nodes in order, whose values are wanted."""

    def __init__(self) -> None:
        self.order: list = []

    def forward(self, op: Any, args: tuple, static: dict, outs: tuple, node: Any) -> None:
        if node is not None and node.plan.keeps_arrays:
            self.order.append(node)
