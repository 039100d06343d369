"""explain(t): how a tensor was made, and what backward does there, with the numbers put in.

For each op on the way: the docstring's formula, the user's line, and for each argument where it
came from and the rule for its gradient, as it stands in the source.
"""

from __future__ import annotations

import sys
from typing import Any

from . import autograd
from .autograd import Node, Port, Variable, Watcher, format_line, no_grad, wrap
from .backend import copy
from .contributions import quiet
from .describe import formula, numbers, place, short_path
from .errors import ArgumentError, TinyTensorError


def explain(tensor: Any, depth: int = 1, *, grad: Any = None, file: Any = None) -> None:
    """Print how the tensor was made, `depth` ops up, and the rule of each argument.

    grad  dL/dtensor, a Tensor or a number for all of it. Known by itself where backward has left
          it in tensor.grad, and for a single number, which counts as the loss. With it every rule
          is run, and its result shown; no .grad is touched, and the graph stays
    file  where to print, instead of standard output
    """
    if not isinstance(tensor, Variable):
        raise ArgumentError(f"explain: expected a Tensor, got {type(tensor).__name__}")
    print("\n".join(_lines(tensor, depth, grad)), file=file or sys.stdout)


def _lines(tensor: Any, depth: int, grad: Any) -> list[str]:
    start = autograd._node_of(tensor)
    if isinstance(start, Variable):
        how = "requires_grad=True" if tensor.requires_grad else "no gradient is recorded"
        text = f"a leaf, not made by an op on the tape ({how})"
        return [text, f"    shape {tuple(tensor.array.shape)}  {numbers(tensor.array)}"]
    nodes = _ancestors(start, depth)
    seen = _Rules(nodes)
    problem = ""
    seed = _gradient(tensor, grad)
    if seed is not None:
        targets = {p for n in nodes for p in n.parents if p is not None}
        try:
            with no_grad(), seen, quiet(tensor):
                autograd._run([start], [seed], targets, True, False)
        except TinyTensorError as error:
            problem = str(error)
    known = {id(n): k for k, n in enumerate(nodes, 1)}
    lines: list[str] = []
    for node in nodes:
        lines += _node_lines(node, known, seen, tensor if node is nodes[0] else None)
    if problem:
        lines.append(f"(backward stopped here: {problem})")
    elif seed is None:
        lines.append(
            "(g = dL/dout is not known here: pass grad=, explain the loss, or call retain_grad() "
            "before backward)"
        )
    return lines


def _gradient(tensor: Any, grad: Any) -> Any:
    """dL/dtensor as an array, or None if nobody knows it."""
    if isinstance(grad, (int, float)):
        grad = wrap(tensor.array * 0 + grad)
    grad = tensor.grad if grad is None else grad
    if grad is None and tensor.array.size != 1:
        return None
    return autograd._seed(tensor, grad, False, "tensor")


class _Rules(Watcher):
    """What the rules of these nodes were given, and what they returned."""

    def __init__(self, nodes: list):
        self.nodes = {id(n) for n in nodes}
        self.given: dict[int, Any] = {}
        self.grads: dict[int, list] = {}

    def backward(self, node: Node, g: Any, grads: list) -> None:
        if id(node) in self.nodes:
            self.given[id(node)] = [copy(o) for o in g] if type(g) is tuple else copy(g)
            self.grads[id(node)] = [None if r is None else copy(r) for r in grads]


def _ancestors(node: Any, depth: int) -> list:
    """The op behind node and those above it, nearest first."""
    found: list = []
    level = [node]
    for _ in range(depth):
        above: list = []
        for n in level:
            n = n.parents[0] if type(n) is Port else n
            if n is not None and not isinstance(n, Variable) and n not in found:
                found.append(n)
                above += n.parents
        level = above
    return found


def _node_lines(node: Node, known: dict, seen: _Rules, tensor: Any) -> list[str]:
    number = f"[{known[id(node)]}] " if len(known) > 1 else ""
    static = ", ".join(f"{k}={numbers(v, 4)}" for k, v in node.static.items() if v is not None)
    lines = [f"{number}{node.op.name}{f' ({static})' if static else ''}   {_line(node)}"]
    doc = (node.op.forward.__doc__ or "").strip().split("\n\n")[0]
    lines += [f"    {row.strip()}" for row in doc.splitlines()]
    if tensor is not None:
        if type(tensor._node) is Port:
            port = tensor._node
            lines.append(f"    this is output {port.index} of {port.count}")
        lines.append(f"    out = {numbers(tensor.array)}")
    g = seen.given.get(id(node))
    if g is not None:
        lines.append(f"    g = dL/dout = {_several(g)}")
    if node.values is None:
        lines.append("    its saved values were freed by backward; retain_graph=True keeps them")
    for step in node.plan.steps:
        lines += _step_lines(node, step, known, seen)
    for name, parent in zip(node.op.argument_names(len(node.parents)), node.parents, strict=False):
        if parent is None:
            lines.append(f"    {name}  needs no gradient")
    return lines


def _step_lines(node: Node, step: Any, known: dict, seen: _Rules) -> list[str]:
    names = node.op.argument_names(len(node.parents))
    grads = seen.grads.get(id(node))
    targets = [i for i in step.targets if node.parents[i] is not None]
    lines = []
    for i in targets:
        shape = _shape(node, i, grads)
        lines.append(f"    {names[i]}{f'  {shape}' if shape else ''}  {_origin(node, i, known)}")
    one = len(targets) == 1
    left = f"dL/d{names[targets[0]]}" if one else ", ".join(f"dL/d{names[i]}" for i in targets)
    if step.rule is None:
        return [*lines, f"        {left}: there is no rule, a gradient cannot pass"]
    text, where = formula(step.rule.function), place(step.rule.function)
    if "\n" in text:
        lines.append(f"        {left} by the rule at {where}")
        lines += [f"            {row}" for row in text.splitlines()]
    else:
        lines.append(f"        {left} = {text or '(no source)'}   {where}")
    if type(node.values) is tuple:
        kept = dict(zip(node.plan.keep, node.values, strict=True))
        for p in step.rule.parameters:
            if p in kept:
                lines.append(f"        {p} = {_several(kept[p])}")
    for i in targets:
        r = None if grads is None else grads[i]
        if r is not None:
            given = seen.given[id(node)]
            summed = node.shapes is not None and r.shape != getattr(given, "shape", r.shape)
            note = ", summed over what was broadcast" if summed else ""
            lines.append(f"        dL/d{names[i]} = {numbers(r)}{note}")
    return lines


def _shape(node: Node, i: int, grads: list | None) -> str:
    """The shape of argument i, if anything on the tape tells it."""
    parent = node.parents[i]
    if isinstance(parent, Variable):
        return str(tuple(parent.array.shape))
    if grads is not None and grads[i] is not None:
        return str(tuple(grads[i].shape))
    if node.shapes is not None:
        return str(tuple(node.shapes[i]))
    return ""


def _origin(node: Node, i: int, known: dict) -> str:
    parent = node.parents[i]
    if isinstance(parent, Variable):
        return "a leaf that requires grad"
    output = f" (output {parent.index})" if type(parent) is Port else ""
    parent = parent.parents[0] if type(parent) is Port else parent
    number = f" [{known[id(parent)]}]" if id(parent) in known else ""
    return f"from {parent.op.name}{output}{number}   {_line(parent)}"


def _line(node: Node) -> str:
    return short_path(format_line(node.where))


def _several(value: Any) -> str:
    """A value, or for variadic ops and several outputs one after the other."""
    if isinstance(value, (tuple, list)) and any(hasattr(v, "dtype") for v in value):
        return "; ".join(numbers(v) for v in value)
    return numbers(value)
