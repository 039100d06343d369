"""Who added what to a gradient: dL/dx is a sum over the consumers of x, and here are its terms.

    tt.contributions(x, loss)                      runs a backward of its own; no .grad is touched
    with tt.contributions(x) as c: loss.backward() looks on during yours

`x * x` gives two terms of one op, a residual stream one for each block that reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import autograd, backend
from .autograd import Node, Variable, Watcher, format_line, no_grad, topological, wrap
from .describe import numbers, short_path
from .errors import ArgumentError, GraphError


@dataclass(frozen=True)
class Contribution:
    """One term of dL/dx: what came back through `argument` of `op`.

    grad   the term, a Tensor of x's shape
    norm   its Euclidean length
    share  grad . total / total . total: the shares of all terms add up to 1; negative where a term
           works against the sum
    """

    op: str
    argument: str
    line: str
    grad: Any
    norm: float
    share: float


class Contributions(Watcher):
    """The terms of dL/dx in the order that backward added them: a sequence that prints as a table.

    total  their sum, which is dL/dx bit for bit
    """

    def __init__(self, x: Variable):
        if not isinstance(x, Variable):
            raise ArgumentError(f"contributions: expected a Tensor, got {type(x).__name__}")
        if not x.requires_grad:
            raise GraphError("contributions: x does not require grad, so no gradient reaches it")
        self.node, self.shape = autograd._node_of(x), tuple(x.array.shape)
        self.terms: list[tuple[str, str, str, Any]] = []

    def backward(self, node: Node, g: Any, grads: list) -> None:
        names = node.op.argument_names(len(node.parents))
        for name, parent, r in zip(names, node.parents, grads, strict=False):
            if parent is self.node and r is not None:
                array = backend.copy(r.array if isinstance(r, Variable) else r)
                self._add(node.op.name, name, format_line(node.where), array)

    def _add(self, op: str, argument: str, line: str, array: Any) -> None:
        self.terms.append((op, argument, short_path(line), array))

    @property
    def total(self) -> Any:
        if not self.terms:
            return None
        total = self.terms[0][3]
        with backend.using(total):
            for *_, array in self.terms[1:]:
                total = total + array
            return wrap(backend.namespace_of(self.terms[0][3]).asarray(total))

    def __len__(self) -> int:
        return len(self.terms)

    def __getitem__(self, i: int) -> Contribution:
        return list(self)[i]

    def __iter__(self) -> Iterator[Contribution]:
        if not self.terms:
            return
        whole = _flat(self.total.array)
        square = float(whole @ whole)
        for op, argument, line, array in self.terms:
            g = _flat(array)
            share = float(g @ whole) / square if square else float("nan")
            yield Contribution(op, argument, line, wrap(array), float(g @ g) ** 0.5, share)

    def __repr__(self) -> str:
        if not self.terms:
            return "no contributions: no backward has reached x inside of this block"
        total = self.total.array
        rows = [("op", "argument", "norm", "share", "line", "gradient")]
        rows += [
            (c.op, c.argument, f"{c.norm:.6g}", f"{c.share:.1%}", c.line, numbers(c.grad.array, 6))
            for c in self
        ]
        length = float(_flat(total) @ _flat(total)) ** 0.5
        rows.append(("sum", "", f"{length:.6g}", "", "", numbers(total, 6)))
        widths = [max(len(row[k]) for row in rows) for k in range(6)]
        table = [
            "  ".join(
                cell.rjust(width) if k in (2, 3) else cell.ljust(width)
                for k, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([f"dL/dx of shape {self.shape} is a sum of {len(self)}:", *table])


def _flat(array: Any) -> Any:
    return backend.to_numpy(array).ravel().astype(float)


def contributions(x: Any, loss: Any = None, gradient: Any = None) -> Contributions:
    """What each consumer of x adds to dL/dx: see Contributions, and the head of this file.

    loss      run a backward from here, keeping the graph and every .grad as they are; hooks run.
              Without it, use the result in a `with` block around your own backward
    gradient  dL/dloss, where loss is not one number
    """
    found = Contributions(x)
    if loss is None:
        return found
    seed = autograd._seed(loss, gradient, False, "loss")
    with no_grad(), found, quiet(loss):
        if autograd._node_of(loss) is found.node:
            found._add("backward", "gradient", "the loss itself", backend.copy(seed))
        autograd._run([autograd._node_of(loss)], [seed], {found.node}, True, False)
    return found


@contextmanager
def quiet(*roots: Variable) -> Iterator[None]:
    """Inside, a backward from these roots leaves the .grad of retain_grad() alone."""
    silenced = []
    for node in topological([autograd._node_of(r) for r in roots]):
        hooks = None if isinstance(node, Variable) else node.hooks
        if hooks and any(isinstance(h, autograd._Retain) for h in hooks):
            silenced.append((node, hooks))
            node.hooks = [h for h in hooks if not isinstance(h, autograd._Retain)]
    try:
        yield
    finally:
        for node, hooks in silenced:
            node.hooks = hooks
