"""Reverse-mode differentiation: the tape and the walk back over it. The whole algorithm.

A tracked op leaves one `Node`: its parents (where gradients go), the values its rules need, and
the line of the user's file that asked for it. `backward` orders the nodes reachable from the root
by an iterative depth-first search, linear in the graph, and visits each once, consumers first:

    dL/dx = sum over the consumers c of x of  rule_c(dL/dc)

First-order gradients run the rules on raw arrays. With `create_graph=True` the same rules run on
Tensors, so that every op is differentiable any number of times.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
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
_tensor_namespace: Any = None  # NumPy's names over Tensors; set by namespace.py


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


# ------------------------------------------------------------------------------ grad mode


class _Mode(threading.local):
    enabled = True  # are ops recorded?
    watchers: tuple = ()  # Watchers, the innermost first


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

    def backward(self, node: Node, g: Any, grads: list) -> None:
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
        return _decorate(lambda: set_grad_enabled(self.enabled), f)


class no_grad:
    """Inside, ops leave no tape: `with tt.no_grad():` or `@tt.no_grad()`. Nests; thread-local."""

    enabled = False

    previous: list

    def __new__(cls, f: Callable | None = None) -> Any:
        if f is not None:
            return _decorate(cls, f)  # bare @no_grad
        self = super().__new__(cls)
        self.previous = []  # a stack: one object may be entered again inside itself
        return self

    def __enter__(self) -> None:
        self.previous.append(mode.enabled)
        mode.enabled = self.enabled

    def __exit__(self, *exc: object) -> None:
        mode.enabled = self.previous.pop()

    def __call__(self, f: Callable) -> Callable:
        return _decorate(type(self), f)


class enable_grad(no_grad):
    """Inside, ops are recorded again, also within a no_grad block."""

    enabled = True


def _decorate(context: Callable, f: Callable) -> Callable:
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


# ------------------------------------------------------------------------------ the tape

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
            xp = _tensor_namespace
            values = plan.as_tensors(self, values)
        else:
            xp = backend.namespace_of(g[0] if type(g) is tuple else g)
        grads: list = [None] * len(parents)
        for step in plan.steps:
            if step.rule is None:
                raise NotDifferentiable(
                    f"{self.op.name} ({format_line(self.where)}) has no rule for its argument "
                    f"{step.names[0]!r}: detach() that argument, or add "
                    f"@{self.op.name}.rule({step.names[0]!r})"
                )
            result = step.call(step.implementation(xp), xp, g, values)
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


# ------------------------------------------------------------------------------ the walk back


def topological(roots: Iterable) -> list:
    """Nodes and leaves that the roots were made from, each before its consumers."""
    order, seen, stack = [], set(), [*roots]
    while stack:
        node = stack.pop()
        if node is None:  # all of its ancestors are in place
            order.append(stack.pop())
        elif node not in seen:
            seen.add(node)
            stack += (node, None)
            stack += [p for p in node.parents if p is not None and p not in seen]
    return order


def _node_of(t: Variable) -> Any:
    """Where the gradient of t goes: its node, or t itself if it is a leaf."""
    if t._base is not None:
        t._refresh()  # type: ignore[attr-defined]
    return t if t._node is None else t._node


def _is_ours(r: Any, g: Any, values: Sequence) -> bool:
    """May this gradient be written into? Yes, if the rule made it and nobody else has it."""
    return r.base is None and r is not g and not any(r is v for v in values)


def _run(
    roots: Sequence, seeds: Sequence, targets: set | None, retain_graph: bool, create_graph: bool
) -> dict:
    """Propagate from roots; deliver to leaves, or, with targets, return {target: gradient}."""
    order = topological(roots)
    needed = None
    if targets is not None:  # only nodes with a target among their ancestors
        needed = set()
        for node in order:
            if node in targets or any(p in needed for p in node.parents):
                needed.add(node)
    pending: dict = {}
    ours: set = set()  # nodes whose pending gradient we may add to in place
    found: dict = {}
    watchers = mode.watchers

    def add(node: Any, r: Any, fresh: bool) -> None:
        if node not in pending:
            pending[node] = r
            if fresh:
                ours.add(node)
        elif node in ours and r.ndim:
            pending[node] += r
        else:
            total = pending[node] + r
            pending[node] = np.asarray(total) if isinstance(total, np.generic) else total
            if not create_graph:
                ours.add(node)

    for node, seed in zip(roots, seeds):
        add(node, seed, False)
    while order:
        node = order.pop()
        if needed is not None and node not in needed:
            pending.pop(node, None)
            continue
        g = pending.pop(node, None)
        if g is None:
            continue
        leaf = isinstance(node, Variable)
        hooks = node._hooks if leaf else node.hooks
        if hooks:
            for hook in tuple(hooks):
                changed = hook(g if create_graph else wrap(g))
                if changed is not None:
                    g = changed if create_graph else changed.array
                    ours.discard(node)
        if targets is not None and node in targets:
            found[node] = g
            if not any(p in needed for p in node.parents):  # type: ignore[operator]
                continue  # nothing is asked for beyond it: its rules need not run
        if leaf:
            if targets is None:
                _deliver(node, g, node in ours, create_graph)
            continue
        if type(node) is Port:
            _collect(pending, node, g)
            continue
        if type(g) is list:
            g = _fill(g, create_graph)
        grads = node.vjp(g, create_graph)
        if watchers:
            for watcher in watchers:
                watcher.backward(node, g, grads)
        values = node.values
        for i, (parent, r) in enumerate(zip(node.parents, grads)):
            if r is None or (needed is not None and parent not in needed):
                continue
            fresh = (
                not create_graph
                and _is_ours(r, g, values)
                and not any(r is other for other in grads[:i])
                and not any(r is other for other in grads[i + 1 :])
            )
            add(parent, r, fresh)
        if not retain_graph:
            node.free()
    return found


def _collect(pending: dict, port: Port, g: Any) -> None:
    """A Port's gradient takes its place in the list that its op's node waits for."""
    slots = pending.setdefault(port.parents[0], [*port.like])
    slots[port.index] = g


def _fill(slots: list, create_graph: bool) -> tuple:
    """Zeros for the outputs that nobody used."""
    some = next(g for g in slots if not isinstance(g, tuple))
    xp = backend.namespace_of(some.array if create_graph else some)
    filled = []
    for g in slots:
        if isinstance(g, tuple):
            zero = xp.zeros(*g)
            g = wrap(zero) if create_graph else zero
        filled.append(g)
    return tuple(filled)


def _deliver(leaf: Any, g: Any, ours: bool, create_graph: bool) -> None:
    """leaf.grad += g; .grad never shares memory with a value of the graph."""
    if g.dtype is not leaf.array.dtype and g.dtype != leaf.array.dtype:  # by a student's op
        g, ours = g.astype(leaf.array.dtype), not create_graph
    if create_graph:
        leaf.grad = g.clone() if leaf.grad is None else leaf.grad + g
    elif leaf.grad is None:
        leaf.grad = wrap(g if ours and g.flags.c_contiguous else g.copy(order="C"))
    elif leaf.grad.requires_grad:
        leaf.grad = wrap(leaf.grad.array + g)
    else:
        array = leaf.grad.array
        array += g
        leaf.grad._version[0] += 1


def _seed(root: Any, g: Any, create_graph: bool, index: str) -> Any:
    """The gradient that backward starts from at `root`: an array, or a Tensor for create_graph."""
    if not root.requires_grad:
        raise GraphError(
            f"{index} does not require grad and has no grad_fn: nothing it was computed from has "
            "requires_grad=True (or it was computed under no_grad)"
        )
    if g is None:
        if root.array.size != 1:
            raise GraphError(
                f"{index} has shape {tuple(root.array.shape)}: grad can be implicitly created only "
                "for scalar outputs; call .sum().backward(), or backward(gradient) of that shape"
            )
        g = wrap(backend.namespace_of(root.array).ones_like(root.array))
    if g.array.shape != root.array.shape:
        raise ShapeError(
            f"the gradient of {index} has shape {tuple(g.array.shape)}, "
            f"{index} itself {tuple(root.array.shape)}: they must be equal"
        )
    if g.array.dtype != root.array.dtype:
        raise GraphError(
            f"the gradient of {index} is {g.array.dtype}, {index} itself {root.array.dtype}: "
            f"cast it with .to({index}.dtype)"
        )
    return g if create_graph else g.array


def _as_tuple(x: Any) -> tuple:
    return tuple(x) if isinstance(x, (list, tuple)) else (x,)


def _gradients(given: Any, count: int, of: str, name: str) -> tuple:
    """The gradients that a user passed for `count` outputs: Tensors or None, one for each."""
    if given is None:
        return (None,) * count
    seeds = _as_tuple(given)
    for g in seeds:
        if g is not None and not isinstance(g, Variable):
            raise ArgumentError(f"{name} must be Tensors or None, got {type(g).__name__}")
    if len(seeds) != count:
        raise GraphError(f"got {count} {of} but {len(seeds)} {name}: one for each")
    return seeds


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add d(sum of tensors)/d(leaf) to the .grad of every leaf they were computed from.

    grad_tensors  dL/d(tensor) for each; may be None for tensors of one element
    retain_graph  keep saved values for another backward (default: as create_graph)
    create_graph  record the backward pass itself, for higher derivatives
    inputs        add to the .grad of these tensors only
    Raises GraphError, InPlaceError, NotDifferentiable, ShapeError.
    """
    roots = _as_tuple(tensors)
    seeds = _gradients(grad_tensors, len(roots), "tensors", "grad_tensors")
    names = ["the tensor"] if len(roots) == 1 else [f"tensors[{i}]" for i in range(len(roots))]
    start = [_seed(r, g, create_graph, n) for r, g, n in zip(roots, seeds, names)]
    retain = create_graph if retain_graph is None else retain_graph
    chosen = None if inputs is None else _as_tuple(inputs)
    targets = None if chosen is None else {_node_of(t) for t in chosen}
    with set_grad_enabled(create_graph):
        found = _run([_node_of(r) for r in roots], start, targets, retain, create_graph)
        for t in chosen or ():
            if _node_of(t) in found:
                _deliver(t, found[_node_of(t)], False, create_graph)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple:
    """d(sum of outputs)/d(input) for each input, as a tuple; no .grad is touched.

    allow_unused       None instead of an error for an input that outputs do not depend on
    materialize_grads  zeros instead of that None
    """
    roots, wanted = _as_tuple(outputs), _as_tuple(inputs)
    seeds = _gradients(grad_outputs, len(roots), "outputs", "grad_outputs")
    for i, t in enumerate(wanted):
        if not t.requires_grad:
            raise GraphError(f"inputs[{i}] does not require grad: call requires_grad_() on it")
    names = ["outputs"] if len(roots) == 1 else [f"outputs[{i}]" for i in range(len(roots))]
    start = [_seed(r, g, create_graph, n) for r, g, n in zip(roots, seeds, names)]
    retain = create_graph if retain_graph is None else retain_graph
    targets = [_node_of(t) for t in wanted]
    with set_grad_enabled(create_graph):
        found = _run([_node_of(r) for r in roots], start, set(targets), retain, create_graph)
    result = []
    for i, (t, node) in enumerate(zip(wanted, targets)):
        if node in found:
            g = found[node]
            result.append(g if create_graph else wrap(g.copy(order="C")))
        elif materialize_grads:
            result.append(wrap(backend.namespace_of(t.array).zeros_like(t.array)))
        elif allow_unused:
            result.append(None)
        else:
            raise GraphError(
                f"inputs[{i}] was not used to compute the outputs: pass allow_unused=True to get "
                "None for it, or materialize_grads=True for zeros"
            )
    return tuple(result)


# ------------------------------------------------------------------------------ hooks


class RemovableHandle:
    """What register_hook returns: `handle.remove()` takes the hook away."""

    def __init__(self, hooks: list, hook: Callable):
        self.hooks, self.hook = hooks, hook

    def remove(self) -> None:
        self.hooks[:] = [h for h in self.hooks if h is not self.hook]


def register_hook(t: Variable, hook: Callable) -> RemovableHandle:
    """Call hook(grad) with the full gradient of t in backward; a returned Tensor replaces it."""
    if not t.requires_grad:
        raise GraphError("cannot register a hook on a tensor that doesn't require gradient")
    node = _node_of(t)
    attribute = "_hooks" if node is t else "hooks"
    if getattr(node, attribute) is None:
        setattr(node, attribute, [])
    hooks = getattr(node, attribute)
    last = len(hooks)
    if hooks and isinstance(hooks[-1], _Retain):  # which keeps what all hooks have left
        last -= 1
    hooks.insert(last, hook)
    return RemovableHandle(hooks, hook)


def retain_grad(t: Variable) -> None:
    """Keep the gradient of a non-leaf in .grad; leaves keep theirs anyway."""
    if not t.requires_grad:
        raise GraphError("can't retain_grad on a tensor that has requires_grad=False")
    if t._node is None or (t._node.hooks and any(isinstance(h, _Retain) for h in t._node.hooks)):
        return
    register_hook(t, _Retain(t))


class _Retain:
    def __init__(self, t: Variable):
        self.tensor = weakref.ref(t)  # the node must not keep its own output alive

    def __call__(self, g: Any) -> None:
        t = self.tensor()
        if t is not None:
            _deliver(t, g if mode.enabled else g.array, False, mode.enabled)


# ------------------------------------------------------------------------------ elsewhere

_ELSEWHERE = {
    "checkpoint": "checkpointing", "detect_anomaly": "anomaly", "set_detect_anomaly": "anomaly",
    "is_anomaly_enabled": "anomaly", "functional": "functional",
    "gradcheck": "testing", "gradgradcheck": "testing",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """PyTorch's torch.autograd.gradcheck and its like, from the files built on this one."""
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"{_PACKAGE}.{_ELSEWHERE[name]}")
    return module if name == _ELSEWHERE[name] else getattr(module, name)
