"""The tape: what autograd knows of a tensor, and what it keeps of each op.

A tracked op leaves one `Node`: its parents (where gradients go), the values its rules need, and
the line of the user's file that asked for it.
"""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend
from .errors import ArgumentError, GraphError, InPlaceError, NotDifferentiable, ShapeError

if TYPE_CHECKING:
    from .tensor import Tensor


class Variable:
    """What autograd knows of a tensor. `Tensor` adds PyTorch's operators and methods.

    array          the NumPy or CuPy array
    grad           dL/dself, a Tensor, after backward; leaves only, or after retain_grad()
    requires_grad  whether gradients flow here
    _node          the Node that made it; None for a leaf
    _version       [count, where]: how often the memory was written in place, and by which line.
                   Shared by all views of one memory
    _base          for a view: (the tensor viewed, its version when the view's node was made)
    _hooks         a leaf's gradient hooks
    """

    __slots__ = (
        "array", "grad", "requires_grad", "_node", "_version", "_base", "_hooks", "__weakref__",
    )  # fmt: skip

    parents: tuple = ()  # a leaf is a node without parents
    array: Any
    grad: Any
    requires_grad: bool
    _node: Any
    _version: list
    _base: Any
    _hooks: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        global _Tensor
        super().__init_subclass__(**kwargs)
        _Tensor = _Tensor or cls  # the first subclass is Tensor: what ops return


_new = object.__new__
_Tensor: Any = None


def wrap(array: Any, node: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor around an array, without any check: the cheapest way to make one."""
    t = _new(_Tensor)
    t.array = array
    t.grad = None
    t.requires_grad = requires_grad
    t._node = node
    t._version = [0, None]
    t._base = None
    t._hooks = None
    return t


class _Late:
    """What is defined above this file but needed here."""

    namespace: Any = None  # NumPy's names over Tensors; set by namespace.py
    add_into: Any = staticmethod(operator.iadd)  # total += g; kernels/cpu: on all threads


late = _Late()

_PACKAGE = __name__.partition(".")[0]


def user_line(depth: int = 2) -> tuple | None:
    """(code, instruction) of the innermost frame outside of this package: cheap to take."""
    frame: Any = sys._getframe(depth)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(_PACKAGE) or name.startswith(_PACKAGE + ".testing"):
            return frame.f_code, frame.f_lasti
        frame = frame.f_back
    return None


def format_line(where: tuple | None) -> str:
    """`file.py:12` of what user_line took."""
    if where is None:
        return "an unknown line"
    code, instruction = where
    lines = [line for start, end, line in code.co_lines() if start <= instruction < end]
    return f"{code.co_filename}:{lines[0] if lines and lines[0] else code.co_firstlineno}"


class Node:
    """One op on the tape.

    op       the Op;  plan: which values its rules need, how they are called
    parents  for each tensor argument the Node or leaf that receives its gradient, or None
    shapes   the arguments' shapes, where broadcasting has to be undone
    values   what the rules need, by plan;  None once freed; a callable brings them back when it
             is handed the node (checkpoint)
    inputs   the arguments, only for ops that run again under create_graph
    static   the keyword arguments of the call
    cells, stamps  the version cells of the saved tensors, and their counts when saved
    where    the user's line
    """

    __slots__ = (
        "op", "plan", "parents", "shapes", "values", "inputs", "static", "cells", "stamps",
        "where", "hooks", "__weakref__",
    )  # fmt: skip

    op: Any
    plan: Any
    parents: tuple
    shapes: list | None
    values: Any
    inputs: list | None
    static: dict
    cells: list
    stamps: list
    where: tuple | None
    hooks: list | None

    @property
    def name(self) -> str:
        return self.op.name

    def __repr__(self) -> str:
        return f"<{self.op.name} at {format_line(self.where)}>"

    def vjp(self, g: Any, create_graph: bool) -> list:
        """The gradient of each argument, aligned with `parents`: None where none is needed."""
        values = self.values
        if type(values) is not tuple:
            values = self._recover()
        cells = self.cells
        if cells and [cell[0] for cell in cells] != self.stamps:
            raise self._overwritten()
        plan, parents = self.plan, self.parents
        if create_graph:
            xp = late.namespace
            values = plan.as_tensors(self, values)
        else:
            xp = backend.namespace_of(g[0] if type(g) is tuple else g)
        grads: list = [None] * len(parents)
        for step in plan.written if create_graph else plan.steps:
            if step.rule is None:
                raise NotDifferentiable(
                    f"{self.op.name} ({format_line(self.where)}) has no rule for its argument "
                    f"{step.names[0]!r}: detach() that argument, or add "
                    f"@{self.op.name}.rule({step.names[0]!r})"
                )
            result = step.call(step.rule.function, xp, g, values)
            if step.joint:
                for i, r in zip(step.targets, result):
                    grads[i] = r
            else:
                grads[step.targets[0]] = result
        if self.op.own:
            self._check_own(grads)
        for i, r in enumerate(grads):
            if r is None or parents[i] is None:
                grads[i] = None
                continue
            if isinstance(r, np.generic):
                r = grads[i] = np.asarray(r)
            if self.shapes is not None and xp is not np and r.dtype != getattr(g, "dtype", r.dtype):
                r = grads[i] = r.astype(g.dtype)  # bfloat16, see apply._as_arguments
            if self.shapes is not None and r.shape != self.shapes[i]:
                grads[i] = unbroadcast(r, self.shapes[i])
        return grads

    def _check_own(self, grads: list) -> None:
        """A student's rules: each gradient must be there, and be of its argument's shape."""
        for i, (r, parent) in enumerate(zip(grads, self.parents)):
            if parent is None:
                continue
            name = self.op.argument_names(len(grads))[i]
            what = f"the rule of {self.op.name} for {name!r} returned"
            if isinstance(r, (float, int)):
                r = grads[i] = np.asarray(r)
            if r is None:
                raise NotDifferentiable(f"{what} None: for a gradient of 0, xp.zeros_like({name})")
            if not hasattr(r, "shape"):
                raise ArgumentError(f"{what} a {type(r).__name__}: it must be an array")
            shape, fits = tuple(self.shapes[i]), tuple(r.shape)  # type: ignore[index]
            if self.op.promote is not None:  # the engine sums over what was broadcast
                lead = len(fits) - len(shape)
                fits = tuple(1 if n == 1 else m for n, m in zip(shape, fits[max(lead, 0) :]))
                fits = fits if lead >= 0 else tuple(r.shape)
            if fits != shape:
                raise ShapeError(f"{what} shape {tuple(r.shape)}, but {name} has shape {shape}")

    def free(self) -> None:
        if self.plan.keeps_arrays:
            self.values = self.inputs = None

    def _recover(self) -> tuple:
        """The values, where they are not simply there: to be computed again, or freed."""
        while type(self.values) is not tuple:
            if self.values is None:
                raise GraphError(
                    f"backward a second time through {self.op.name} ({format_line(self.where)}): "
                    "its saved values were freed; call backward(retain_graph=True) the first time"
                )
            self.values(self)
        return self.values

    def _overwritten(self) -> InPlaceError:
        """The complaint about the first saved value that was overwritten."""
        (what, i), stamp, cell = next(
            (name, stamp, cell)
            for name, stamp, cell in zip(
                self.plan.watched_names(self), self.stamps, self.cells, strict=True
            )
            if cell[0] != stamp
        )
        if i is not None and isinstance(self.parents[i], Variable):  # an optimizer's step
            fix = "call backward() before that line, or compute from a .clone()"
        elif i is None:
            fix = "use the out-of-place form there, or write into a .clone()"
        else:
            fix = f"use the out-of-place form there, or hand {self.op.name} a .clone()"
        return InPlaceError(
            f"{self.op.name} ({format_line(self.where)}) saved its {what} for backward, but "
            f"{format_line(cell[1])} overwrote it in place (version {cell[0]}, saved at {stamp}): "
            f"{fix}"
        )


class Port(Node):
    """One output of an op with several: hands its gradient to the op's own node."""

    __slots__ = ("index", "count", "like")

    def __init__(self, node: Node, index: int, count: int, like: list):
        self.op, self.parents, self.hooks = node.op, (node,), None
        self.index, self.count, self.like, self.where = index, count, like, node.where

    def free(self) -> None:
        pass


def unbroadcast(g: Any, shape: tuple) -> Any:
    """Sum `g` down to `shape`: the transpose of broadcasting `shape` up to g.shape."""
    lead = g.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1 != g.shape[lead + i]))
    g = g.sum(axis=axes, keepdims=True) if axes else g
    return g.reshape(shape)
