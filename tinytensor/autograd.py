"""Reverse-mode differentiation: the walk back over the tape. The whole algorithm.

`backward` orders the nodes reachable from the root by an iterative depth-first search, linear in
the graph, and visits each once, consumers first:

    dL/dx = sum over the consumers c of x of  rule_c(dL/dc)

First-order gradients run the rules on raw arrays. With `create_graph=True` the same rules run on
Tensors, so that every op is differentiable any number of times. The tape itself is in node.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from . import backend
from .backend import ndarray
from .errors import ArgumentError, GraphError, ShapeError
from .modes import Watcher as Watcher
from .modes import enable_grad as enable_grad
from .modes import is_grad_enabled as is_grad_enabled
from .modes import mode as mode
from .modes import no_grad as no_grad
from .modes import set_grad_enabled as set_grad_enabled
from .node import Node as Node
from .node import Port as Port
from .node import Variable as Variable
from .node import format_line as format_line
from .node import late
from .node import unbroadcast as unbroadcast
from .node import user_line as user_line
from .node import wrap as wrap


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
    """Propagate from roots; deliver to leaves, or, with targets, return {target: gradient}.

    Rules run on the device of their gradient.
    """
    with backend.Following() as device:
        follow = (lambda g: device.follow(g.array)) if create_graph else device.follow
        return _walk(roots, seeds, targets, retain_graph, create_graph, follow)


def _walk(
    roots: Sequence, seeds: Sequence, targets: set | None, retain_graph: bool, create_graph: bool,
    follow: Callable,
) -> dict:  # fmt: skip
    """The walk of _run; follow(g) makes g's device the current one."""
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
            return
        if type(r) is not ndarray:
            follow(r)
        if node in ours and r.ndim:
            late.add_into(pending[node], r)
        elif fresh and r.ndim and r.dtype == pending[node].dtype:
            late.add_into(r, pending[node])
            pending[node] = r
            ours.add(node)
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
        if type(g) is not ndarray and type(g) is not list:
            follow(g)
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
            g = _fill(g, create_graph, follow)
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


def _fill(slots: list, create_graph: bool, follow: Callable) -> tuple:
    """Zeros for the outputs that nobody used."""
    some = next(g for g in slots if not isinstance(g, tuple))
    follow(some)
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
        leaf.grad = wrap(g if ours and g.flags.c_contiguous else backend.copy(g))
    elif leaf.grad.requires_grad:
        leaf.grad = wrap(leaf.grad.array + g)
    else:
        late.add_into(leaf.grad.array, g)
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
        g = wrap(backend.full_like(root.array, 1))
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
            result.append(g if create_graph else wrap(backend.copy(g)))
        elif materialize_grads:
            result.append(wrap(backend.full_like(t.array, 0)))
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

    module = importlib.import_module(f"{__package__}.{_ELSEWHERE[name]}")
    return module if name == _ELSEWHERE[name] else getattr(module, name)
